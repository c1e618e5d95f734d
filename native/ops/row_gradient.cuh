#pragma once
// The gradient of a touched row of a table: the sum over its entries, in their order, of weight *
// dy[bag of the entry, :] (ops/sparse_grad.h). Hot rows, those with more than kHotEntries
// entries, are cut into chunks of fixed size. Other warps sum the chunks first (the partials),
// which are then added in order: one hot row does not delay the rest, and the result does not
// depend on the grid.

#include "core/limits.h"
#include "core/view.h"
#include "cuda/gather.cuh"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {

// The partial of chunk k of the hot row whose entries begin at s has index s / kPartialEntries + k.
// A hot row has at most as many chunks as whole runs of kPartialEntries, so the partials of two
// rows never overlap, and no list of chunks is needed.
constexpr int kPartialEntries = kHotEntries / 2;

constexpr int64_t partial_count(int64_t entries) {
  return entries <= kHotEntries ? 0 : entries / kPartialEntries + 1;
}

// Touched rows with their entries resolved. All on the device; R = count[0].
struct ResolvedRows {
  const int32_t *rows, *starts, *count;
  const RowEntry<float>* entries;  // in sorted order: the row of dy, and the weight
  const float* partials;           // [partial_count, width]
  int width;
};

// Calls f(RowSlice{}, slicing) with the slice for rows of `width` floats. `vec4`: they can be
// accessed in packs of four. A slice is 256 columns, of which the dy of 16k tokens (17 MB) stays
// resident in L2, with eight 16-byte loads of a lane in flight.
template <class F>
void with_gradient_slice(bool vec4, int64_t width, F f) {
  if (vec4) return f(RowSlice<4, 2, 4>{}, slicing(width / 4, 2));
  f(RowSlice<1, 4, 2>{}, slicing(width, 4));
}

// As with_gradient_slice, with a slice that has all of a row, of up to kWholeRow floats.
template <class F>
void with_whole_row(bool vec4, int64_t width, F f) {
  const int64_t packs = vec4 ? width / 4 : width;
  const auto in_one = [&](auto slice) { f(slice, slicing(packs, slice.vectors)); };
  if (packs <= kWarp * (vec4 ? 2 : 4)) return with_gradient_slice(vec4, width, f);
  if (width <= kWholeRow / 2)
    return vec4 ? in_one(RowSlice<4, 4, 2>{}) : in_one(RowSlice<1, 16, 1>{});
  return vec4 ? in_one(RowSlice<4, 8, 1>{}) : in_one(RowSlice<1, 32, 1>{});
}

// body(r) for every gridDim-th row below R, a row for each lane group. All groups of a warp call it
// together, those without a row with r = -1.
template <class F>
__device__ inline void for_rows(const LaneGroup& group, int64_t R, F body) {
  const int64_t per_block = static_cast<int>(blockDim.x) / group.lanes;
  const int64_t own = group_of_block(group), first_of_warp = own - group.first / group.lanes;
  for (int64_t base = blockIdx.x * per_block; base + first_of_warp < R;
       base += gridDim.x * per_block)
    body(base + own < R ? base + own : -1);
}

// sum = one slice of the gradient of touched row r; 0 where r < 0. All groups of the warp
// call it together.
template <class Slice>
__device__ inline void row_gradient(Slice& sum, const ResolvedRows& t, const LaneGroup& group,
                                    int64_t r, int column) {
  // entries are fewer than 2^31
  int begin = r < 0 ? 0 : t.starts[r], end = r < 0 ? 0 : t.starts[r + 1];
  const bool hot = end - begin > kHotEntries;
  if (hot) {
    const int chunks = (end - begin + kHotEntries - 1) / kHotEntries;
    begin /= kPartialEntries;
    end = begin + chunks;
  }
  const auto max_count = static_cast<int>(reduce_max(static_cast<uint32_t>(end - begin)));
  add_rows<Caching::kept, float>(sum, group, end - begin, max_count, column, t.width, [&](int i) {
    return hot ? RowEntry<float>{row_at(t.partials, begin + i, t.width), 1.0f}
               : t.entries[begin + i];
  });
}

// row[…] = the lane's elements of a slice. kOnce: they are not read again soon.
template <bool kOnce = false, class Slice>
__device__ inline void store_slice(float* row, const Slice& slice, const LaneGroup& group,
                                   int column, int width) {
#pragma unroll
  for (int v = 0; v < Slice::vectors; ++v) {
    const int c = column + v * group.lanes * Slice::n;
    Pack<float, Slice::n> p;
#pragma unroll
    for (int e = 0; e < Slice::n; ++e) p.v[e] = slice.v[v][e];
    if (c >= width) continue;
    if constexpr (kOnce)
      store_streaming<Slice::n>(row + c, p);
    else
      store<Slice::n>(row + c, p);
  }
}

}  // namespace ml::ML_CUDA_NAMESPACE
