#pragma once
// The first half of a product-key lookup: the k best half-keys of each (token, head, half), as
// order keys (core/order.h). Scores exist in shared memory only, one tile of tokens by half-keys at
// a time: the tile's best go to the lists, and the next tile overwrites it.
//   query [T, H, 2, d], keys [H, 2, n, d] in   mask [H, 2, n] uint8 in, optional: 0 excludes a key
//   lists [T, H, 2, list_capacity(k)] uint64 out, descending, 0 past the selectable half-keys

#include "cuda/gemm.cuh"
#include "cuda/launch.cuh"
#include "cuda/select.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {

struct HalfLists {
  uint64_t* lists;      // [chunks, T, H, 2, list_capacity(k)]
  const uint8_t* mask;  // [H, 2, n], or nullptr
  int64_t T, H, n, d, k;
  int64_t chunk;  // half-keys for one block: n, or fewer where tokens are few
};

namespace {

constexpr uint32_t kUnselectable = 0x007fffff;  // ordered_bits(-Infinity)

template <class T, int kRows>
struct HalfListsStorage {
  using Product = typename KMajorProduct<T, kRows, kKeyColumns>::type;
  // eight more than a row, so that the four rows that a warp writes at once are in different banks
  static constexpr int kPitch = kKeyColumns + 8;
  static constexpr int kWarps = Product::kThreads / kWarp;
  union {
    typename Product::Stage ring[kStages];
    alignas(16) float scores[kRows * kPitch];
  };
  uint64_t buffers[kRows][kWarp];
  uint32_t thresholds[kRows];
  int counts[kRows];
  uint32_t selectable[kKeyColumns / kWarp];  // one bit for each half-key of the tile
};

template <class Storage>
__device__ inline Selection selection(Storage& s, int row, uint64_t* list, int64_t capacity,
                                      int64_t k) {
  return {.list = list,
          .buffer = s.buffers[row],
          .capacity = capacity,
          .k = k,
          .count = s.counts[row],
          .threshold = s.thresholds[row]};
}

// Offers the scores of the tile, whose first half-key is column0, to the lists of its rows. One
// warp has every kWarps-th row.
template <class Storage, class List>
__device__ inline void select_from_tile(Storage& s, int rows, int64_t capacity, int64_t k,
                                        int64_t column0, const List& list) {
  for (int row = warp_of_block(); row < rows; row += Storage::kWarps) {
    Selection best = selection(s, row, list(row), capacity, k);
    const auto bits = [&](int word) {
      return s.selectable[word] >> lane() & 1
                 ? ordered_bits(s.scores[row * Storage::kPitch + word * kWarp + lane()])
                 : 0;
    };
    uint32_t max = 0;
#pragma unroll
    for (int word = 0; word < kKeyColumns / kWarp; ++word)
      max = bits(word) > max ? bits(word) : max;
    if (!any(max > best.threshold)) continue;  // true of most tiles, once the list is good
#pragma unroll 1
    for (int word = 0; word < kKeyColumns / kWarp; ++word)
      best.offer(bits(word), static_cast<uint32_t>(column0 + word * kWarp + lane()));
    warp_sync();
    if (lane() == 0) {
      s.thresholds[row] = best.threshold;
      s.counts[row] = best.count;
    }
  }
}

// One block lists the best of one chunk of the half-keys for kRows tokens and one (head, half); one
// warp has the lists of every kWarps-th token. blockIdx: x token tile, those of one (head, half)
// next to each other so that its keys stay in L2; y chunk. The lists are in shared memory behind
// the storage, or in global memory where they are too long.
template <class T, int kRows>
__global__ void __launch_bounds__(kRows* kKeyColumns / 64, kHalfListsMinBlocks)
    half_lists_kernel(Guard guard, HalfLists a, Operand<T> query, Operand<T> keys,
                      bool shared_lists) {
  if (guard.aborted()) return;
  using Storage = HalfListsStorage<T, kRows>;
  Storage& s = shared<Storage>();
  const int64_t capacity = list_capacity(a.k), tiles = (a.T + kRows - 1) / kRows;
  const int64_t hp = blockIdx.x / tiles, t0 = blockIdx.x % tiles * kRows;
  const int64_t begin = blockIdx.y * a.chunk, end = begin + a.chunk < a.n ? begin + a.chunk : a.n;
  const int rows = a.T - t0 < kRows ? static_cast<int>(a.T - t0) : kRows;
  query.data += hp * a.d;
  keys.data += hp * a.n * a.d;
  uint64_t* own_lists = reinterpret_cast<uint64_t*>(&s + 1);
  const auto result = [&](int row) {
    return a.lists + ((blockIdx.y * a.T + t0 + row) * 2 * a.H + hp) * capacity;
  };
  const auto list = [&](int row) {
    return shared_lists ? own_lists + row * capacity : result(row);
  };

  for (int row = warp_of_block(); row < rows; row += Storage::kWarps) {
    for (int64_t i = lane(); i < capacity; i += kWarp) list(row)[i] = 0;
    if (lane() == 0) {
      s.thresholds[row] = kUnselectable;
      s.counts[row] = 0;
    }
  }
  for (int64_t column0 = begin; column0 < end; column0 += kKeyColumns) {
    typename Storage::Product product;
    multiply_tile(product, s.ring, query, t0, a.T, keys, column0, end, 0, a.d);
    product.for_each_run([&](int row, int column, const float* sums) {
      constexpr int kRun = Storage::Product::kRun;
      Pack<float, kRun> run;
#pragma unroll
      for (int e = 0; e < kRun; ++e) run.v[e] = sums[e];
      store<kRun>(s.scores + row * Storage::kPitch + column, run);
    });
    for (int word = warp_of_block(); word < kKeyColumns / kWarp; word += Storage::kWarps) {
      const int64_t j = column0 + word * kWarp + lane();
      const uint32_t bits = ballot(j < end && (!a.mask || a.mask[hp * a.n + j] != 0));
      if (lane() == 0) s.selectable[word] = bits;
    }
    block_sync();
    select_from_tile(s, rows, capacity, a.k, column0, list);
    block_sync();
  }
  for (int row = warp_of_block(); row < rows; row += Storage::kWarps) {
    warp_sync();
    Selection best = selection(s, row, list(row), capacity, a.k);
    if (best.count > 0) best.merge();
    if (shared_lists)
      for (int64_t i = lane(); i < capacity; i += kWarp) result(row)[i] = best.list[i];
  }
}

// One warp merges the lists of all chunks of one row into the first.
__global__ void __launch_bounds__(kThreads)
    merge_lists_kernel(Guard guard, uint64_t* lists, int64_t rows, int64_t capacity,
                       int64_t chunks) {
  if (guard.aborted()) return;
  // [0, rows) and past it
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kThreads / kWarp) + warp_of_block();
  if (row < rows)
    for (int64_t c = 1; c < chunks; ++c)
      insert_list(lists + row * capacity, capacity, lists + (c * rows + row) * capacity);
}

template <class T, int kRows>
void launch_half_lists(CudaStream& stream, const HalfLists& a, const Operand<T>& query,
                       const Operand<T>& keys, int64_t chunks) {
  using Storage = HalfListsStorage<T, kRows>;
  const size_t bytes_with_lists =
      sizeof(Storage) + static_cast<size_t>(kRows * list_capacity(a.k)) * sizeof(uint64_t);
  const bool fits = bytes_with_lists <= static_cast<size_t>(stream.limits().shared_per_block);
  const int64_t tiles = (a.T + kRows - 1) / kRows;
  launch(half_lists_kernel<T, kRows>,
         dim3(grid_width(tiles * 2 * a.H), static_cast<unsigned>(chunks)),
         dim3(Storage::Product::kThreads), fits ? bytes_with_lists : sizeof(Storage), stream, a,
         query, keys, fits);
}

// The lists of the best min(k, n) half-keys. The result does not depend on how the work is cut.
template <class T>
const uint64_t* half_lists(CudaStream& stream, const T* query, const T* keys, HalfLists a) {
  Operand<T> q = Operand<T>::of(query, a.d);
  q.stride = 2 * a.H * a.d;
  const int64_t rows = a.T * 2 * a.H, capacity = list_capacity(a.k),
                multiprocessors = stream.limits().multiprocessors;
  const size_t large_bytes = sizeof(HalfListsStorage<T, kLargeTileTokens>) +
                             static_cast<size_t>(kLargeTileTokens * capacity) * sizeof(uint64_t);
  const bool large =
      a.T > kSmallTileTokens &&
      2 * large_bytes <= static_cast<size_t>(stream.limits().shared_per_multiprocessor);
  const int64_t tile = large ? kLargeTileTokens : kSmallTileTokens;
  const int64_t blocks = (a.T + tile - 1) / tile * 2 * a.H;
  int64_t chunks = blocks < multiprocessors ? 2 * multiprocessors / blocks : 1;
  const int64_t max_chunks = (a.n + kKeyColumns - 1) / kKeyColumns;
  if (chunks > max_chunks) chunks = max_chunks;
  a.chunk = ((a.n + chunks - 1) / chunks + kKeyColumns - 1) / kKeyColumns * kKeyColumns;
  chunks = (a.n + a.chunk - 1) / a.chunk;
  a.lists = stream.scratch<uint64_t>(chunks * rows * capacity);
  if (large) {
    launch_half_lists<T, kLargeTileTokens>(stream, a, q, Operand<T>::of(keys, a.d), chunks);
  } else {
    launch_half_lists<T, kSmallTileTokens>(stream, a, q, Operand<T>::of(keys, a.d), chunks);
  }
  if (chunks > 1)
    launch(merge_lists_kernel, dim3(blocks_for(rows, kThreads / kWarp)), dim3(kThreads), 0, stream,
           a.lists, rows, capacity, chunks);
  return a.lists;
}

}  // namespace
}  // namespace ml::ML_CUDA_NAMESPACE
