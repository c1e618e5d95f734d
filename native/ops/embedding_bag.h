#pragma once
// The weighted embedding bag: sparse reads of a value table, and the gradient of their weights.
//   EmbeddingBag                  y[b, :] = sum over entries l of bag b of
//                                           weights[l] * scale(l) * table[indices[l], :]
//   EmbeddingBagWeightsBackward   dweights[l] = scale(l) * <dy[b, :], table[indices[l], :]>
// where scale(l) = scales[indices[l]], or 1 without scales.
//
//   table      [N, V]    float32 | float16 | bfloat16 | int8  in
//   indices    [B, L]    int32    in; ragged bags: [nnz]
//   weights    [B, L]    float32  in; ragged bags: [nnz]
//   offsets    [B + 1]   int32    in, of ragged bags only: offsets[0] = 0, ascending to nnz
//   scales     [N]       float32  in, optional: the scale of each int8 row
//   y          [B, V]    float32  out
//   dy         [B, V]    float32  in
//   dweights   as weights         out
// Sums are float32, in the order of the bag. A GPU cuts the entries of few bags into chunks, as the
// shape alone says, and adds the sums of chunks in order: always the same bits. N, V < 2^31.
// Index -1 is a padding index: its entry is skipped whatever its weight, and its dweights is 0. Any
// other index outside [0, N) is ERR_INDEX_RANGE, found before anything is written.

#include "core/limits.h"
#include "ops/operands.h"

namespace ml {

struct EmbeddingBag {
  View y, table, indices, weights, offsets, scales;
  bool indices_known = false;  // in range: they need no check
};

struct EmbeddingBagWeightsBackward {
  View dweights, dy, table, indices, offsets, scales;
  bool indices_known = false;
};

inline void expect_slots(const char* op, int64_t slots) {
  if (slots >= kIndexLimit)
    fail(Code::shape, op, "table", "have fewer than 2^31 slots", std::to_string(slots));
}

// Kernels count the columns of a table by int32.
inline void expect_row_width(const char* op, const char* arg, const View& table) {
  if (table.dim(1) >= kIndexLimit)
    fail(Code::shape, op, arg, "have rows of fewer than 2^31 elements", to_string(table.shape));
}

// Checks indices with their bags; returns the number of bags.
inline int64_t check_bags(const char* op, const View& indices, const View& offsets) {
  expect_dtype(op, "indices", indices, DType::i32);
  if (!offsets) {
    expect_rank(op, "indices", indices, 2, "[bags, bag size], or [entries] with \"offsets\"");
    return indices.dim(0);
  }
  expect_rank(op, "indices", indices, 1, "[entries], as there are \"offsets\"");
  expect_dtype(op, "offsets", offsets, DType::i32);
  expect_rank(op, "offsets", offsets, 1, "[bags + 1]");
  if (offsets.dim(0) == 0) fail(Code::shape, op, "offsets", "have at least one entry", "none");
  if (offsets.dim(0) == 1 && indices.dim(0) > 0)
    fail(Code::shape, op, "offsets", "have the end of a bag, as \"indices\" has entries", "no bags",
         "They ascend from 0 to the number of entries, " + to_string(indices.shape) + ".");
  return offsets.dim(0) - 1;
}

inline void check_table(const char* op, const View& table, const View& scales) {
  expect_rank(op, "table", table, 2, "[slots, dim]");
  expect(table.dtype != DType::i32 && table.dtype != DType::u8, Code::dtype, op, "table",
         "be float32, float16, bfloat16 or int8", name_of(table.dtype));
  expect_slots(op, table.dim(0));
  expect_row_width(op, "table", table);
  if (scales) expect_float32(op, "scales", scales, {table.dim(0)});
}

// Checks a table and the bags that read it; returns the shape of y.
inline Shape check_table_bags(const char* op, const View& table, const View& indices,
                              const View& offsets, const View& scales) {
  check_table(op, table, scales);
  return {check_bags(op, indices, offsets), table.dim(1)};
}

template <class Input>
constexpr void inputs(const EmbeddingBag& a, Input&& input) {
  input("table", a.table);
  input("indices", a.indices);
  input("weights", a.weights);
  input("offsets", a.offsets);
  input("scales", a.scales);
}

inline Outputs<EmbeddingBag, 1> outputs(const EmbeddingBag& a) {
  const char* op = "embeddingBag";
  const Shape y = check_table_bags(op, a.table, a.indices, a.offsets, a.scales);
  expect_float32(op, "weights", a.weights, a.indices.shape);
  return {op, {{&EmbeddingBag::y, "out", y}}};
}

template <class Input>
constexpr void inputs(const EmbeddingBagWeightsBackward& a, Input&& input) {
  input("dy", a.dy);
  input("table", a.table);
  input("indices", a.indices);
  input("offsets", a.offsets);
  input("scales", a.scales);
}

inline Outputs<EmbeddingBagWeightsBackward, 1> outputs(const EmbeddingBagWeightsBackward& a) {
  const char* op = "embeddingBagBackward";
  expect_float32(op, "dy", a.dy, check_table_bags(op, a.table, a.indices, a.offsets, a.scales));
  return {op, {{&EmbeddingBagWeightsBackward::dweights, "out.dWeights", a.indices.shape}}};
}

}  // namespace ml
