#pragma once
// The sparse weighted embedding bag and the gradient of its weights.
//   y[b, :]      = sum over l in bag b of weights[l] * scale(indices[l]) * table[indices[l], :]
//   dweights[l]  = scale(indices[l]) * <dy[b, :], table[indices[l], :]>          (NaN-free for
//   empty entries: 0)
// Bags: fixed, indices and weights [B, L]; or ragged, indices and weights [nnz] and offsets [B + 1]
// int32, offsets[0] = 0, ascending, offsets[B] = nnz. Index -1 is a padding entry: it is skipped,
// whatever its weight. Any other index outside [0, N) is ERR_INDEX_RANGE, found before anything is
// written.
//   table [N, V] float32 | float16 | bfloat16 | int8   indices int32   weights float32   scales [N]
//   float32 optional (int8's row scale) y, dy [B, V] float32, accumulated in float32 in the order
//   of the bag.            Offsets into the table are 64-bit.
// A GPU cuts the entries of few bags in pieces, as the shape alone says, and adds the pieces' sums
// in order: always the same bits.

#include "core/check.h"

namespace ml {

struct EmbeddingBag {
  View y, table, indices, weights, offsets, scales;
};

struct EmbeddingBagWeightsBackward {
  View dweights, dy, table, indices, offsets, scales;
};

// Indices with their bags: returns the number of bags.
inline int64_t check_bags(const char* op, const View& table, const View& indices,
                          const View& offsets, const View& scales) {
  expect_rank(op, "table", table, 2, "[slots, dim]");
  expect(table.dtype != DType::i32 && table.dtype != DType::u8, Code::dtype, op, "table",
         "be float32, float16, bfloat16 or int8", name_of(table.dtype));
  expect(table.dim(0) < (int64_t{1} << 31), Code::shape, op, "table", "have fewer than 2^31 slots",
         std::to_string(table.dim(0)));
  expect_dtype(op, "indices", indices, DType::i32);
  if (scales) expect_float32(op, "scales", scales, {table.dim(0)});
  if (!offsets) {
    expect_rank(op, "indices", indices, 2, "[bags, bag size], or [entries] with \"offsets\"");
    return indices.dim(0);
  }
  expect_rank(op, "indices", indices, 1, "[entries], as there are \"offsets\"");
  expect_dtype(op, "offsets", offsets, DType::i32);
  expect_rank(op, "offsets", offsets, 1, "[bags + 1]");
  expect(offsets.dim(0) >= 1, Code::shape, op, "offsets", "have at least one entry", "none");
  return offsets.dim(0) - 1;
}

inline void check(const EmbeddingBag& a) {
  const char* op = "embeddingBag";
  const int64_t bags = check_bags(op, a.table, a.indices, a.offsets, a.scales);
  expect_float32(op, "weights", a.weights, a.indices.shape);
  expect_float32(op, "out", a.y, {bags, a.table.dim(1)});
}

inline void check(const EmbeddingBagWeightsBackward& a) {
  const char* op = "embeddingBagBackward";
  const int64_t bags = check_bags(op, a.table, a.indices, a.offsets, a.scales);
  expect_float32(op, "dy", a.dy, {bags, a.table.dim(1)});
}

}  // namespace ml
