// Sparse gradient (ops/sparse_grad.h). SortRows: a radix sort of (row, position), then a scan over
// where rows begin. SparseGradValues: entries are resolved to rows of dy, and lane groups sum them.

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

// A pair is a number that sorts by row, and within a row by position: row << 32 | position. A
// padding entry has row N.
__device__ inline int32_t row_of(uint64_t pair) { return static_cast<int32_t>(pair >> 32); }

// One thread makes the pair of one entry.
__global__ void __launch_bounds__(kThreads)
    pairs_kernel(Guard guard, uint64_t* pairs, const int32_t* indices, int64_t first, int64_t count,
                 int32_t slots) {
  if (guard.aborted()) return;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const int32_t row = indices[i] < 0 ? slots : indices[i];
  pairs[first + i] = static_cast<uint64_t>(row) << 32 | static_cast<uint64_t>(first + i);
}

// Sorted pair i, and the rows of the pairs next to it.
struct Neighbours {
  int32_t before, row, after;  // N at both ends
  uint32_t position;
  bool begins;  // its row begins here
  bool last;    // of all entries that are not padding
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

// One warp counts the rows that begin among its 32 pairs.
__global__ void __launch_bounds__(kThreads)
    count_rows_kernel(Guard guard, int32_t* begun, const uint64_t* sorted, int64_t count,
                      int32_t slots) {
  if (guard.aborted()) return;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const uint32_t begins = ballot(neighbours(sorted, i, count, slots).begins);
  if (lane() == 0 && i < count) begun[i / kWarp] = popcount(begins);
}

// One thread writes one entry, and its row if it begins there. before[w]: rows that begin before
// the pairs of warp w.
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
  const int32_t r = before[i / kWarp] + popcount(begins & lanes_below());
  if (n.begins) {
    rows[r] = n.row;
    starts[r] = static_cast<int32_t>(i);
  }
  if (!n.last) return;
  const int32_t R = r + (n.begins ? 1 : 0);
  total[0] = R;
  starts[R] = static_cast<int32_t>(i) + 1;
}

// One read, which has the positions [begin, end) of all reads end to end.
struct ReadSpan {
  int64_t begin, end;
  const float *weights, *dy;
  const int32_t* offsets;  // nullptr: bags of `size`
  int32_t bags, size;
};
struct ReadSpans {
  ReadSpan span[kMaxReadsPerLaunch];
  int count;
};

// The bag of an entry: of a ragged read the last bag that begins at or before it.
__device__ inline int32_t bag_of(const ReadSpan& span, int32_t entry) {
  if (!span.offsets) return entry / span.size;
  int32_t low = 0, high = span.bags;  // offsets[low] <= entry < offsets[high]
  while (high - low > 1) {
    const int32_t middle = low + (high - low) / 2;
    (span.offsets[middle] <= entry ? low : high) = middle;
  }
  return low;
}

// One thread resolves one sorted entry, if it belongs to these reads.
__global__ void __launch_bounds__(kThreads)
    resolve_kernel(Guard guard, RowEntry<float>* entries, const int32_t* order,
                   const int32_t* starts, const int32_t* count, ReadSpans reads, int64_t width) {
  if (guard.aborted()) return;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= starts[count[0]]) return;
  const int32_t position = order[i];
  for (int s = 0; s < reads.count; ++s) {
    const ReadSpan& span = reads.span[s];
    if (position < span.begin || position >= span.end) continue;
    const int32_t entry = position - static_cast<int32_t>(span.begin);
    entries[i] = {row_at(span.dy, bag_of(span, entry), width), span.weights[entry]};
  }
}

// One lane group sums one slice of the chunk of a hot row, for the partial of that chunk, if any.
template <class Slice>
__global__ void __launch_bounds__(kThreads, kSparseGradMinBlocks)
    hot_rows_kernel(Guard guard, float* partials, ResolvedRows t, int64_t partial_total,
                    int lanes) {
  if (guard.aborted()) return;
  const LaneGroup group = lane_group(lanes);
  const int64_t partial = int64_t{blockIdx.x} * (kThreads / lanes) + group_of_block(group);
  const int column = Slice::column(group, blockIdx.y);
  // The row of that chunk has this entry: hot rows have more than 2 * kPartialEntries entries, and
  // a chunk has that many.
  const int64_t entry = partial * kPartialEntries + kPartialEntries - 1;
  const int32_t R = t.count[0];
  int64_t begin = 0, end = 0;
  if (partial < partial_total && entry < t.starts[R]) {
    int32_t low = 0, high = R;  // starts[low] <= entry < starts[high]
    while (high - low > 1) {
      const int32_t middle = low + (high - low) / 2;
      (t.starts[middle] <= entry ? low : high) = middle;
    }
    const int64_t first = t.starts[low], last = t.starts[low + 1];
    const int64_t chunk = partial - first / kPartialEntries;
    if (last - first > kHotEntries && first + chunk * kHotEntries < last) {
      begin = first + chunk * kHotEntries;
      end = begin + kHotEntries < last ? begin + kHotEntries : last;
    }
  }
  const auto count = static_cast<int>(end - begin);
  const auto max_count = static_cast<int>(reduce_max(static_cast<uint32_t>(count)));
  Slice sum;
  add_rows<Caching::kept, float>(sum, group, count, max_count, column, t.width,
                                 [&](int i) { return t.entries[begin + i]; });
  if (begin < end) store_slice(row_at(partials, partial, t.width), sum, group, column, t.width);
}

// One lane group sums one slice of every gridDim-th touched row. The slice is blockIdx.y, the
// slowest index: all rows read one slice of dy, which is then resident in L2, before the next.
template <class Slice>
__global__ void __launch_bounds__(kThreads, kSparseGradMinBlocks)
    sparse_grad_values_kernel(Guard guard, float* values, ResolvedRows t, int lanes) {
  if (guard.aborted()) return;
  const LaneGroup group = lane_group(lanes);
  const int column = Slice::column(group, blockIdx.y);
  const int64_t R = t.count[0];
  for_rows(group, R, [&](int64_t r) {
    Slice sum;
    row_gradient(sum, t, group, r, column);
    if (r >= 0) store_slice(row_at(values, r, t.width), sum, group, column, t.width);
  });
}

// One warp adds every gridDim-th touched row.
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
  return {.begin = begin,
          .end = begin + r.indices.size(),
          .weights = r.weights.as<float>(),
          .dy = r.dy.as<float>(),
          .offsets = ragged ? r.offsets.as<int32_t>() : nullptr,
          .bags = static_cast<int32_t>(ragged ? r.offsets.size() - 1 : r.indices.dim(0)),
          .size = static_cast<int32_t>(ragged ? 0 : r.indices.dim(1))};
}

}  // namespace

void sort_rows(CudaStream& stream, const SortRows& a) {
  const int64_t entries = entry_count(a.reads);
  const auto slots = static_cast<int32_t>(a.slots);
  uint64_t* pairs = stream.scratch<uint64_t>(entries);
  int64_t first = 0;
  for (const TableRead& r : a.reads) {
    if (!r.indices_known) stream.check_indices(a.op, a.argument, r.indices, a.slots);
    if (r.offsets) stream.check_offsets(a.op, r.offsets, r.indices.size());
    const int64_t count = r.indices.size();
    launch(pairs_kernel, dim3(blocks_for(count, kThreads)), dim3(kThreads), 0, stream, pairs,
           r.indices.as<int32_t>(), first, count, slots);
    first += count;
  }
  const int bits = std::bit_width(static_cast<uint32_t>(slots));
  const uint64_t* sorted =
      sort_pairs(stream, pairs, stream.scratch<uint64_t>(entries), entries, 32, 32 + bits);

  const int64_t warps = (entries + kWarp - 1) / kWarp;
  int32_t* begun = stream.scratch<int32_t>(warps);
  const dim3 grid(std::max(1u, blocks_for(entries, kThreads)));
  launch(count_rows_kernel, grid, dim3(kThreads), 0, stream, begun, sorted, entries, slots);
  exclusive_sum(stream, begun, begun, warps);
  launch(write_rows_kernel, grid, dim3(kThreads), 0, stream, a.rows.as<int32_t>(),
         a.starts.as<int32_t>(), a.order.as<int32_t>(), a.count.as<int32_t>(), sorted, begun,
         entries, slots);
}

ResolvedRows resolve_rows(CudaStream& stream, const View& rows, const View& starts,
                          const View& order, const View& count, const std::vector<TableRead>& reads,
                          int64_t width) {
  const int64_t total = entry_count(reads), partial_total = partial_count(total);
  RowEntry<float>* entries = stream.scratch<RowEntry<float>>(total);
  float* partials = stream.scratch<float>(partial_total * width);
  int64_t first = 0;
  for (size_t at = 0; at < reads.size(); at += kMaxReadsPerLaunch) {
    ReadSpans spans{};
    for (; spans.count < kMaxReadsPerLaunch && at + spans.count < reads.size(); ++spans.count) {
      const TableRead& r = reads[at + spans.count];
      spans.span[spans.count] = span_of(r, first);
      first += r.indices.size();
    }
    launch(resolve_kernel, dim3(blocks_for(total, kThreads)), dim3(kThreads), 0, stream, entries,
           order.as<int32_t>(), starts.as<int32_t>(), count.as<int32_t>(), spans, width);
  }
  const ResolvedRows t{.rows = rows.as<int32_t>(),
                       .starts = starts.as<int32_t>(),
                       .count = count.as<int32_t>(),
                       .entries = entries,
                       .partials = partials,
                       .width = static_cast<int>(width)};
  with_gradient_slice(vec4_aligned(reads, width), width, [&]<class Slice>(Slice, Slicing s) {
    const dim3 grid(blocks_for(partial_total, kThreads / s.lanes), s.slices);
    launch(hot_rows_kernel<Slice>, grid, dim3(kThreads), 0, stream, partials, t, partial_total,
           s.lanes);
  });
  return t;
}

void sparse_grad_values(CudaStream& stream, const SparseGradValues& a) {
  const int64_t width = a.values.dim(1);
  const ResolvedRows t = resolve_rows(stream, a.rows, a.starts, a.order, a.count, a.reads, width);
  with_gradient_slice(vec4_aligned(a.reads, width) && vec4_aligned(a.values, width), width,
                      [&]<class Slice>(Slice, Slicing s) {
                        const dim3 grid(striding_blocks(a.values.dim(0), kThreads / s.lanes,
                                                        stream.limits().multiprocessors),
                                        s.slices);
                        launch(sparse_grad_values_kernel<Slice>, grid, dim3(kThreads), 0, stream,
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
