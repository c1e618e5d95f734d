#pragma once
// The gradient of a touched row of a table: the sum over its places, in their order, of weight *
// dy[bag of the place, :] (ops/sparse_grad.h). Rows that very many places read are hot: they are
// cut in chunks of fixed size, whose sums are made first, by other warps, and are then added in
// order. So one hot row does not hold up the rest, and the bits do not depend on the grid.

#include "core/limits.h"
#include "cuda/bags.cuh"

namespace ml::ML_CUDA_NAMESPACE {

// Chunk k of the hot row whose places begin at s is kept in slot s / kSlotPlaces + k. A hot row has
// no more chunks than whole slots, so the slots of two rows never meet, and nothing needs to be
// counted or listed.
constexpr int kSlotPlaces = kHotEntries / 2;

constexpr int64_t slots_of(int64_t places) {
  return places <= kHotEntries ? 0 : places / kSlotPlaces + 1;
}

// Touched rows with their places resolved. All on the device; R = count[0].
struct TouchedRows {
  const int32_t *rows, *starts, *count;
  const RowEntry<float>* places;  // in sorted order: the row of dy, and the weight
  const float* partials;          // [slots, width]
  int width;
};

// Calls f(Tile{}, slicing) with the tile for rows of `width` floats. `fours`: they can be moved in
// packs of four. A slice is 256 columns, of which the dy of 16k tokens (17 MB) stays in L2, with
// eight 16-byte loads of a lane in flight.
template <class F>
void with_gradient_tile(bool fours, int64_t width, F f) {
  if (fours) return f(Tile<4, 2, 4>{}, slicing(width / 4, 2));
  f(Tile<1, 4, 2>{}, slicing(width, 4));
}

// body(r) for every gridDim-th row below R, a row for each lane group; all groups of a warp come
// together, those without a row with r = -1.
template <class F>
__device__ inline void for_rows(const LaneGroup& group, int64_t R, F body) {
  const int64_t in_block = static_cast<int>(blockDim.x) / group.lanes;
  const int64_t own = group_of_block(group), first_of_warp = own - group.first / group.lanes;
  for (int64_t base = blockIdx.x * in_block; base + first_of_warp < R; base += gridDim.x * in_block)
    body(base + own < R ? base + own : -1);
}

// sum = the gradient of touched row r, or of none where r < 0. All groups of the warp come
// together.
template <class Tile>
__device__ inline void row_gradient(Tile& sum, const TouchedRows& t, const LaneGroup& group,
                                    int64_t r, int column) {
  // places are fewer than 2^31
  int begin = r < 0 ? 0 : t.starts[r], end = r < 0 ? 0 : t.starts[r + 1];
  const bool hot = end - begin > kHotEntries;
  if (hot) {
    const int chunks = (end - begin + kHotEntries - 1) / kHotEntries;
    begin /= kSlotPlaces;
    end = begin + chunks;
  }
  const auto longest = static_cast<int>(reduce_max(static_cast<uint32_t>(end - begin)));
  add_rows<Reading::again, float>(sum, group, end - begin, longest, column, t.width, [&](int i) {
    return hot ? RowEntry<float>{row_at(t.partials, begin + i, t.width), 1.0f}
               : t.places[begin + i];
  });
}

// row[…] = the lane's elements
template <class Tile>
__device__ inline void store_tile(float* row, const Tile& tile, const LaneGroup& group, int column,
                                  int width) {
#pragma unroll
  for (int v = 0; v < Tile::vectors; ++v) {
    const int c = column + v * group.lanes * Tile::n;
    Pack<float, Tile::n> p;
#pragma unroll
    for (int e = 0; e < Tile::n; ++e) p.v[e] = tile.v[v][e];
    if (c < width) store<Tile::n>(row + c, p);
  }
}

}  // namespace ml::ML_CUDA_NAMESPACE
