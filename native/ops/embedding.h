#pragma once
// Rows of a table by index: y[t, :] = scale * table[indices[t], :], where scale is
// scales[indices[t]], or 1 without scales. Its gradient is that of a bag of one entry with weight 1
// (ops/sparse_grad.h).
//   table    [N, V]          float32 | float16 | bfloat16 | int8  in
//   indices  [...]           int32    in, at most 5 axes
//   scales   [N]             float32  in, optional: the scale of each int8 row
//   y        [..., V]        float32  out
// Index -1 is a padding index, whose row is zeros. Any other index outside [0, N) is
// ERR_INDEX_RANGE, found before anything is written.

#include "ops/embedding_bag.h"

namespace ml {

struct Embedding {
  View y, table, indices, scales;
};

template <class Input>
constexpr void inputs(const Embedding& a, Input&& input) {
  input("table", a.table);
  input("indices", a.indices);
  input("scales", a.scales);
}

// Checks a table and the indices of its rows; returns the shape of the rows.
inline Shape check_embedding(const char* op, const View& table, const View& indices,
                             const View& scales) {
  check_table(op, table, scales);
  expect_dtype(op, "indices", indices, DType::i32);
  Shape shape = indices.shape;
  expect(shape.rank < kMaxRank, Code::shape, op, "indices",
         "have at most " + std::to_string(kMaxRank - 1) + " axes", to_string(shape));
  shape.dims[shape.rank++] = table.dim(1);
  return shape;
}

inline Outputs<Embedding, 1> outputs(const Embedding& a) {
  const char* op = "embedding";
  return {op, {{&Embedding::y, "out", check_embedding(op, a.table, a.indices, a.scales)}}};
}

}  // namespace ml
