#include "ops/sparse_grad.cuh"

#include <algorithm>
#include <bit>

#include "cuda/launch.cuh"
#include "cuda/sort.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"
#include "ops/sparse_grad.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// reads that one launch resolves: their description is an argument of the kernel
constexpr int kSpans = 16;

// A pair is a number that sorts by row, and within a row by position: row << 32 | position. An
// empty place has row N.
__device__ inline int32_t row_of(uint64_t pair) { return static_cast<int32_t>(pair >> 32); }

// A thread makes the pair of one place.
__global__ void __launch_bounds__(kThreads)
    pairs_kernel(Guard guard, uint64_t* pairs, const int32_t* indices, int64_t first, int64_t count,
                 int32_t slots) {
  if (guard.aborted()) return;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const int32_t row = indices[i] < 0 ? slots : indices[i];
  pairs[first + i] = static_cast<uint64_t>(row) << 32 | static_cast<uint64_t>(first + i);
}

// What lane i of a warp sees of the sorted pairs.
struct Neighbours {
  int32_t before, row, after;  // N at both ends
  uint32_t position;
  bool begins, last;  // of its row; of all places that are not empty
};
__device__ inline Neighbours neighbours(const uint64_t* sorted, int64_t i, int64_t count,
                                        int32_t slots) {
  Neighbours n;
  const uint64_t pair = i < count ? sorted[i] : uint64_t{static_cast<uint32_t>(slots)} << 32;
  n.row = row_of(pair);
  n.position = static_cast<uint32_t>(pair);
  n.before = i > 0 && i < count ? row_of(sorted[i - 1]) : slots;
  n.after = i + 1 < count ? row_of(sorted[i + 1]) : slots;
  n.begins = n.row != slots && n.row != n.before;
  n.last = n.row != slots && n.after == slots;
  return n;
}

// A warp counts the rows that begin among its 32 pairs.
__global__ void __launch_bounds__(kThreads)
    count_rows_kernel(Guard guard, int32_t* begun, const uint64_t* sorted, int64_t count,
                      int32_t slots) {
  if (guard.aborted()) return;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const uint32_t begins = ballot(neighbours(sorted, i, count, slots).begins);
  if (lane() == 0 && i < count) begun[i / kWarp] = population(begins);
}

// A thread writes what its pair says; `before` are the rows that began before each warp.
__global__ void __launch_bounds__(kThreads)
    write_rows_kernel(Guard guard, int32_t* rows, int32_t* starts, int32_t* order, int32_t* total,
                      const uint64_t* sorted, const int32_t* before, int64_t count, int32_t slots) {
  if (guard.aborted()) return;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const Neighbours n = neighbours(sorted, i, count, slots);
  const uint32_t begins = ballot(n.begins);
  if (i == 0 && n.row == slots) starts[0] = total[0] = 0;
  if (n.row == slots) return;
  order[i] = static_cast<int32_t>(n.position);
  const int32_t r = before[i / kWarp] + population(begins & lanes_below());
  if (n.begins) {
    rows[r] = n.row;
    starts[r] = static_cast<int32_t>(i);
  }
  if (!n.last) return;
  const int32_t R = r + (n.begins ? 1 : 0);
  total[0] = R;
  starts[R] = static_cast<int32_t>(i) + 1;
}

// One read, and which positions are its.
struct ReadSpan {
  int64_t begin, end;
  const float *weights, *dy;
  const int32_t* offsets;  // nullptr: bags of `size`
  int32_t bags, size;
};
struct ReadSpans {
  ReadSpan span[kSpans];
  int count;
};

// The bag in which a place of a ragged read lies: the last that begins at or before it.
__device__ inline int32_t bag_of(const ReadSpan& span, int32_t place) {
  if (!span.offsets) return place / span.size;
  int32_t low = 0, high = span.bags;  // offsets[low] <= place < offsets[high]
  while (high - low > 1) {
    const int32_t middle = low + (high - low) / 2;
    (span.offsets[middle] <= place ? low : high) = middle;
  }
  return low;
}

// A thread resolves one sorted place, if it belongs to these reads.
__global__ void __launch_bounds__(kThreads)
    resolve_kernel(Guard guard, RowEntry<float>* places, const int32_t* order,
                   const int32_t* starts, const int32_t* count, ReadSpans reads, int64_t width) {
  if (guard.aborted()) return;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= starts[count[0]]) return;
  const int32_t position = order[i];
  for (int s = 0; s < reads.count; ++s) {
    const ReadSpan& span = reads.span[s];
    if (position < span.begin || position >= span.end) continue;
    const int32_t place = position - static_cast<int32_t>(span.begin);
    places[i] = {row_at(span.dy, bag_of(span, place), width), span.weights[place]};
  }
}

// A lane group sums one slice of the chunk that a slot keeps, if it keeps one.
template <class Tile>
__global__ void __launch_bounds__(kThreads, 3)
    hot_rows_kernel(Guard guard, float* partials, TouchedRows t, int64_t slots, int lanes) {
  if (guard.aborted()) return;
  const LaneGroup group = lane_group(lanes);
  const int64_t slot = int64_t{blockIdx.x} * (kThreads / lanes) + group_of_block(group);
  const int column = Tile::column(group, blockIdx.y);
  // A row with a chunk here has the slot's last place: hot rows are longer than two slots, and
  // their chunks twice as long as a slot.
  const int64_t place = slot * kSlotPlaces + kSlotPlaces - 1;
  const int32_t R = t.count[0];
  int64_t begin = 0, end = 0;
  if (slot < slots && place < t.starts[R]) {
    int32_t low = 0, high = R;  // starts[low] <= place < starts[high]
    while (high - low > 1) {
      const int32_t middle = low + (high - low) / 2;
      (t.starts[middle] <= place ? low : high) = middle;
    }
    const int64_t first = t.starts[low], last = t.starts[low + 1];
    const int64_t chunk = slot - first / kSlotPlaces;
    if (last - first > kHotEntries && first + chunk * kHotEntries < last) {
      begin = first + chunk * kHotEntries;
      end = begin + kHotEntries < last ? begin + kHotEntries : last;
    }
  }
  const auto count = static_cast<int>(end - begin);
  const auto longest = static_cast<int>(reduce_max(static_cast<uint32_t>(count)));
  Tile sum;
  add_rows<Reading::again, float>(sum, group, count, longest, column, t.width,
                                  [&](int i) { return t.places[begin + i]; });
  if (begin < end) store_tile(row_at(partials, slot, t.width), sum, group, column, t.width);
}

// A lane group sums one slice of every gridDim-th touched row. Slices are slowest: all rows take
// one slice of dy, which L2 then holds, before the next.
template <class Tile>
__global__ void __launch_bounds__(kThreads, 3)
    sparse_grad_values_kernel(Guard guard, float* values, TouchedRows t, int lanes) {
  if (guard.aborted()) return;
  const LaneGroup group = lane_group(lanes);
  const int column = Tile::column(group, blockIdx.y);
  const int64_t R = t.count[0];
  for_rows(group, R, [&](int64_t r) {
    Tile sum;
    row_gradient(sum, t, group, r, column);
    if (r >= 0) store_tile(row_at(values, r, t.width), sum, group, column, t.width);
  });
}

// A warp adds every gridDim-th touched row.
__global__ void __launch_bounds__(kThreads)
    sparse_grad_to_dense_kernel(Guard guard, float* dense, const float* values, const int32_t* rows,
                                const int32_t* count, int64_t width) {
  if (guard.aborted()) return;
  const int64_t R = count[0];
  for_rows(lane_group(kWarp), R, [&](int64_t r) {
    if (r < 0) return;
    float* row = row_at(dense, rows[r], width);
    for (int64_t c = lane(); c < width; c += kWarp) row[c] += row_at(values, r, width)[c];
  });
}

ReadSpan span_of(const TableRead& r, int64_t begin) {
  const bool ragged = static_cast<bool>(r.offsets);
  return {begin,
          begin + r.indices.size(),
          r.weights.as<float>(),
          r.dy.as<float>(),
          ragged ? r.offsets.as<int32_t>() : nullptr,
          static_cast<int32_t>(ragged ? r.offsets.size() - 1 : r.indices.dim(0)),
          static_cast<int32_t>(ragged ? 0 : r.indices.dim(1))};
}

}  // namespace

void sort_rows(CudaStream& stream, const SortRows& a) {
  const int64_t places = entry_count(a.reads);
  const auto slots = static_cast<int32_t>(a.slots);
  uint64_t* pairs = stream.scratch<uint64_t>(places);
  int64_t first = 0;
  for (const TableRead& r : a.reads) {
    stream.check_indices("embeddingBagBackward", "indices", r.indices, a.slots);
    if (r.offsets) stream.check_offsets("embeddingBagBackward", r.offsets, r.indices.size());
    const int64_t count = r.indices.size();
    launch(pairs_kernel, dim3(blocks_for(count, kThreads)), dim3(kThreads), 0, stream, pairs,
           r.indices.as<int32_t>(), first, count, slots);
    first += count;
  }
  const int bits = std::bit_width(static_cast<uint32_t>(slots));
  const uint64_t* sorted =
      sort_pairs(stream, pairs, stream.scratch<uint64_t>(places), places, 32, 32 + bits);

  const int64_t warps = (places + kWarp - 1) / kWarp;
  int32_t* begun = stream.scratch<int32_t>(warps);
  const dim3 grid(std::max(1u, blocks_for(places, kThreads)));
  launch(count_rows_kernel, grid, dim3(kThreads), 0, stream, begun, sorted, places, slots);
  exclusive_sum(stream, begun, begun, warps);
  launch(write_rows_kernel, grid, dim3(kThreads), 0, stream, a.rows.as<int32_t>(),
         a.starts.as<int32_t>(), a.order.as<int32_t>(), a.count.as<int32_t>(), sorted, begun,
         places, slots);
}

TouchedRows touched_rows(CudaStream& stream, const View& rows, const View& starts,
                         const View& order, const View& count, const std::vector<TableRead>& reads,
                         int64_t width) {
  const int64_t total = entry_count(reads), slots = slots_of(total);
  RowEntry<float>* places = stream.scratch<RowEntry<float>>(total);
  float* partials = stream.scratch<float>(slots * width);
  int64_t first = 0;
  for (size_t at = 0; at < reads.size(); at += kSpans) {
    ReadSpans spans{};
    for (; spans.count < kSpans && at + spans.count < reads.size(); ++spans.count) {
      const TableRead& r = reads[at + spans.count];
      spans.span[spans.count] = span_of(r, first);
      first += r.indices.size();
    }
    launch(resolve_kernel, dim3(blocks_for(total, kThreads)), dim3(kThreads), 0, stream, places,
           order.as<int32_t>(), starts.as<int32_t>(), count.as<int32_t>(), spans, width);
  }
  const TouchedRows t{rows.as<int32_t>(), starts.as<int32_t>(),   count.as<int32_t>(), places,
                      partials,           static_cast<int>(width)};
  with_gradient_tile(in_fours(reads, width), width, [&]<class Tile>(Tile, Slicing s) {
    const dim3 grid(blocks_for(slots, kThreads / s.lanes), s.slices);
    launch(hot_rows_kernel<Tile>, grid, dim3(kThreads), 0, stream, partials, t, slots, s.lanes);
  });
  return t;
}

void sparse_grad_values(CudaStream& stream, const SparseGradValues& a) {
  const int64_t width = a.values.dim(1);
  const TouchedRows t = touched_rows(stream, a.rows, a.starts, a.order, a.count, a.reads, width);
  with_gradient_tile(in_fours(a.reads, width) && in_fours(a.values, width), width,
                     [&]<class Tile>(Tile, Slicing s) {
                       const dim3 grid(striding_blocks(a.values.dim(0), kThreads / s.lanes,
                                                       stream.limits().multiprocessors),
                                       s.slices);
                       launch(sparse_grad_values_kernel<Tile>, grid, dim3(kThreads), 0, stream,
                              a.values.as<float>(), t, s.lanes);
                     });
}

void sparse_grad_to_dense(CudaStream& stream, const SparseGradToDense& a) {
  const dim3 grid(
      striding_blocks(a.values.dim(0), kThreads / kWarp, stream.limits().multiprocessors));
  launch(sparse_grad_to_dense_kernel, grid, dim3(kThreads), 0, stream, a.dense.as<float>(),
         a.values.as<float>(), a.rows.as<int32_t>(), a.count.as<int32_t>(), a.values.dim(1));
}

}  // namespace ml::ML_CUDA_NAMESPACE
