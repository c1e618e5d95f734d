#pragma once
// A read of a table (ops/sparse_grad.h), copied for the queue of the table.
//   queued_indices[i] = indices[i],   queued_weights[i] = weights[i],
//   queued_offsets[b] = offsets[b], where the bags are ragged
//     indices         [B, L]         int32    in
//     weights         [B, L]         float32  in
//     offsets         [B + 1]        int32    in, of ragged bags only
//     dy              [B, V]         float32  in; not used
//     queued_indices  [as indices]   int32    updated: -1 everywhere before
//     queued_weights  [as weights]   float32  updated
//     queued_offsets  [as offsets]   int32    updated: of as many bags before
// As an update that is void changes nothing, a read that is void in any part stays in the queue as
// padding, which counts for nothing, and the reads beside it are as if it were not there. Index -1
// is a padding index; any other index outside [0, slots) is ERR_INDEX_RANGE.

#include "ops/operands.h"

namespace ml {

struct QueueRead {
  View queued_indices, queued_weights, queued_offsets, indices, weights, offsets, dy;
  int64_t slots = 0;
  bool indices_known = false;  // in range: they need no check
};

template <class Input>
constexpr void inputs(const QueueRead& a, Input&& input) {
  input("indices", a.indices);
  input("weights", a.weights);
  input("offsets", a.offsets);
  input("dy", a.dy);
}

template <class Output>
constexpr void outputs(const QueueRead& a, Output&& output) {
  output("queued indices", a.queued_indices, Write::updated);
  output("queued weights", a.queued_weights, Write::updated);
  output("queued offsets", a.queued_offsets, Write::updated);
}

// A table checks the read before, and makes what it keeps itself.
inline void check(const QueueRead&) {}

}  // namespace ml
