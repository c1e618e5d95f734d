#pragma once
// dkeys of a product-key lookup (ops/product_key_lookup.h): the entries of all tokens are sorted
// by half-key, stably, those without one last, and each row of dkeys is summed over its entries, in
// ascending token whatever the grid.

#include <bit>

#include "cuda/sort.cuh"
#include "ops/half_key_gradients.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

constexpr int kDkeysWarps = kThreads / kWarp;  // of a block

// starts[row]: where the entries of a row begin in the sorted pairs, for rows [0, rows]. One thread
// has one pair, and writes the rows after that of the pair before, up to its own.
__global__ void __launch_bounds__(kThreads)
    starts_kernel(Guard guard, int64_t* starts, const uint64_t* pairs, int64_t count, int64_t rows,
                  int entry_bits) {
  if (guard.aborted()) return;
  // [0, count] and past it
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i <= count) {
    const int64_t first = i == 0 ? 0 : static_cast<int64_t>(pairs[i - 1] >> entry_bits) + 1;
    const int64_t last = i == count ? rows : static_cast<int64_t>(pairs[i] >> entry_bits);
    for (int64_t row = first; row <= last; ++row) starts[row] = i;
  }
}

// The sorted entries, and where those of each row of dkeys [2 H n, d] begin.
struct SortedEntries {
  const uint64_t* pairs;
  const int64_t* starts;  // [2 H n + 1]
  EntryBits bits;
};

// One warp: sum += gradient * query row over the entries [begin, end) in order, the first 32
// of every `step`.
template <int kVec, class T>
__device__ inline void add_entries(float (&sum)[kVec], const HalfKeyGradients& g,
                                   const SortedEntries& e, const T* query, int64_t d, int64_t begin,
                                   int64_t end, int64_t step, bool active) {
  for (int64_t base = begin; base < end; base += step) {
    const int count = end - base < kWarp ? static_cast<int>(end - base) : kWarp;
    int64_t from = 0;
    float factor = 0;
    if (lane() < count) {
      const uint64_t pair = e.pairs[base + lane()];
      from = e.bits.query_of(pair);
      factor = g.values[from * g.k + e.bits.rank_of(pair)];
    }
    add_rows(sum, query, d, from, factor, count, active);
  }
}

// For rows with few entries: one warp adds to one slice of 32 * kVec columns of one row.
template <class T, int kVec>
__global__ void __launch_bounds__(kThreads, kDkeysMinBlocks)
    dkeys_by_warp_kernel(Guard guard, float* dkeys, HalfKeyGradients g, SortedEntries e,
                         const T* query, int64_t d, int64_t rows) {
  if (guard.aborted()) return;
  const int64_t slices = (d + kWarp * kVec - 1) / (kWarp * kVec);
  // [0, rows * slices) and past it
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kDkeysWarps + warp_of_block();
  if (item >= rows * slices) return;  // whole warps
  const int64_t row = item / slices, column = item % slices * (kWarp * kVec) + lane() * kVec;
  const int64_t begin = e.starts[row], end = e.starts[row + 1];
  float sum[kVec] = {};
  add_entries(sum, g, e, query + column, d, begin, end, kWarp, column < d);
  if (begin == end || column >= d) return;
  float* to = dkeys + row * d + column;
  Pack<float, kVec> total = load<kVec>(to);
#pragma unroll
  for (int i = 0; i < kVec; ++i) total.v[i] += sum[i];
  store<kVec>(to, total);
}

template <int kVec>
struct WarpSums {
  float v[kDkeysWarps][kWarp * kVec];
};

// For rows with many entries: one block adds to one slice of one row. Its warps have 32 entries in
// turn; their sums are added in order.
template <class T, int kVec>
__global__ void __launch_bounds__(kThreads, kDkeysMinBlocks)
    dkeys_by_block_kernel(Guard guard, float* dkeys, HalfKeyGradients g, SortedEntries e,
                          const T* query, int64_t d) {
  if (guard.aborted()) return;
  WarpSums<kVec>& s = shared<WarpSums<kVec>>();
  const int64_t slices = (d + kWarp * kVec - 1) / (kWarp * kVec);
  const int64_t row = blockIdx.x / slices,
                column = blockIdx.x % slices * (kWarp * kVec) + lane() * kVec;
  const int64_t begin = e.starts[row], end = e.starts[row + 1];
  float sum[kVec] = {};
  add_entries(sum, g, e, query + column, d, begin + warp_of_block() * kWarp, end, kThreads,
              column < d);
  Pack<float, kVec> own;
#pragma unroll
  for (int i = 0; i < kVec; ++i) own.v[i] = sum[i];
  store<kVec>(&s.v[warp_of_block()][lane() * kVec], own);
  block_sync();
  // Only warps that had entries: a short row takes few additions.
  const int64_t used = (end - begin + kWarp - 1) / kWarp < kDkeysWarps
                           ? (end - begin + kWarp - 1) / kWarp
                           : kDkeysWarps;
  for (int c = static_cast<int>(threadIdx.x); c < kWarp * kVec; c += kThreads) {
    const int64_t j = blockIdx.x % slices * (kWarp * kVec) + c;
    if (used == 0 || j >= d) continue;
    float total = s.v[0][c];
    for (int w = 1; w < used; ++w) total += s.v[w][c];
    dkeys[row * d + j] += total;
  }
}

inline EntryBits entry_bits(int64_t TH, int64_t k) {
  const auto bits_for = [](int64_t max) {
    return static_cast<int>(std::bit_width(static_cast<uint64_t>(max)));
  };
  return {.query = bits_for(2 * TH - 1), .rank = bits_for(k - 1)};
}

template <class T, int kVec>
void add_dkeys(CudaStream& stream, const HalfKeyGradients& g, const View& dkeys,
               const View& query) {
  const int64_t H = query.dim(1), d = query.dim(3), rows = 2 * H * g.n, entries = g.TH * g.entries;
  if (d == 0) return;
  const int bits = g.bits.total();
  const uint64_t* sorted =
      sort_pairs(stream, g.pairs, stream.scratch<uint64_t>(entries), entries, bits,
                 bits + static_cast<int>(std::bit_width(static_cast<uint64_t>(rows))));
  int64_t* starts = stream.scratch<int64_t>(rows + 1);
  launch(starts_kernel, dim3(blocks_for(entries + 1, kThreads)), dim3(kThreads), 0, stream, starts,
         sorted, entries, rows, bits);
  const int64_t slices = (d + kWarp * kVec - 1) / (kWarp * kVec);
  const SortedEntries e{.pairs = sorted, .starts = starts, .bits = g.bits};
  // by what there can be: not by g.entries, on which the bits would then depend
  if (g.TH * 2 * g.k <= rows * kFewEntries) {
    launch(dkeys_by_warp_kernel<T, kVec>, dim3(blocks_for(rows * slices, kDkeysWarps)),
           dim3(kThreads), 0, stream, dkeys.as<float>(), g, e, query.as<T>(), d, rows);
  } else {
    launch(dkeys_by_block_kernel<T, kVec>, dim3(grid_width(rows * slices)), dim3(kThreads),
           sizeof(WarpSums<kVec>), stream, dkeys.as<float>(), g, e, query.as<T>(), d);
  }
}

}  // namespace
}  // namespace ml::ML_CUDA_NAMESPACE
