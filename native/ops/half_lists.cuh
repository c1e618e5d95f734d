#pragma once
// The first half of a product-key lookup: the k best half-keys of each (token, head, half), as
// order keys (core/order.h). Scores exist in shared memory only, one tile of tokens by half-keys at
// a time: the tile's best go to the lists, and the next tile overwrites it. The lists are in global
// memory, since few tiles change them: shared memory decides how many warps a multiprocessor has.
//   query [T, H, 2, d], keys [H, 2, n, d] in   mask [H, 2, n] uint8 in, optional: 0 excludes a key
//   lists [T, H, 2, list_capacity(k)] uint64 out, descending, 0 past the selectable half-keys

#include "cuda/gemm.cuh"
#include "cuda/launch.cuh"
#include "cuda/ptx_architecture.cuh"
#include "cuda/select.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"
#include "ops/product_key_lookup.h"

namespace ml::ML_CUDA_NAMESPACE {

struct HalfLists {
  uint64_t* lists;      // [chunks, T, H, 2, list_capacity(k)]
  const uint8_t* mask;  // [H, 2, n], or nullptr
  int64_t T, H, n, d, k;
  int64_t chunk;  // half-keys for one block: n, or fewer where tokens are few
  int64_t chunks;
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
    typename Product::Stage ring[kHalfListsStages];
    alignas(16) float scores[kRows * kPitch];
  };
  uint32_t buffered_bits[kRows][kWarp];
  uint16_t buffered_keys[kRows][kWarp];
  uint32_t thresholds[kRows];
  int counts[kRows];
  int64_t list0;  // where the first row's list begins: registers are short in the product
  uint32_t selectable[kKeyColumns / kWarp];  // one bit for each half-key of the tile
};
static_assert(kMaxHalfKeys < 1 << 16);

using RowSelection = Selection<ShortKeyBuffer>;
template <class Storage>
__device__ inline RowSelection selection(Storage& s, int row, uint64_t* list, int64_t k) {
  return {.list = list,
          .buffer = {s.buffered_bits[row], s.buffered_keys[row]},
          .capacity = list_capacity(k),
          .k = k,
          .count = s.counts[row],
          .threshold = s.thresholds[row]};
}

constexpr int kTileWords = kKeyColumns / kWarp;
// Turing's shared memory holds no more than one.
constexpr int kMinBlocks = kForTuring ? 1 : kHalfListsMinBlocks;

// The first tile of a row gives most of a list of at most 32: it is sorted in registers.
// bits(word): of half-key first + word * 32 of the lane.
template <class Bits>
__device__ inline void sort_first_tile(RowSelection& best, const Bits& bits, uint32_t first) {
  uint64_t sorted[kTileWords];
#pragma unroll
  for (int word = 0; word < kTileWords; ++word)
    sorted[word] = sort_descending(
        bits(word) > best.threshold ? order_key(bits(word), first + word * kWarp) : 0);
#pragma unroll
  for (int words = kTileWords / 2; words > 0; words /= 2)
#pragma unroll
    for (int word = 0; word < words; ++word)
      sorted[word] = merge_sorted(sorted[word], sorted[word + words]);
  best.replace(sorted[0]);
}

// Offers the scores of the tile, whose first half-key is column0, to the lists of its rows. One
// warp has every kWarps-th row.
template <class Storage, class List>
__device__ inline void select_from_tile(Storage& s, int rows, int64_t k, int column0,
                                        bool first_tile, const List& list) {
  for (int row = warp_of_block(); row < rows; row += Storage::kWarps) {
    RowSelection best = selection(s, row, list(row), k);
    const auto bits = [&](int word) {
      return s.selectable[word] >> lane() & 1
                 ? ordered_bits(s.scores[row * Storage::kPitch + word * kWarp + lane()])
                 : 0;
    };
    uint32_t max = 0;
#pragma unroll
    for (int word = 0; word < kTileWords; ++word) max = bits(word) > max ? bits(word) : max;
    const bool begins = first_tile && k <= kWarp;         // also a list of nothing is written
    if (!begins && !any(max > best.threshold)) continue;  // true of most tiles
    const uint32_t first = static_cast<uint32_t>(column0) + lane();
    if (begins) {
      sort_first_tile(best, bits, first);
    } else {
#pragma unroll 1
      for (int word = 0; word < kTileWords; ++word) best.offer(bits(word), first + word * kWarp);
    }
    warp_sync();
    if (lane() == 0) {
      s.thresholds[row] = best.threshold;
      s.counts[row] = best.count;
    }
  }
}

// One block lists the best of one chunk of the half-keys for kRows tokens and one (head, half); one
// warp has the lists of every kWarps-th token. blockIdx: x token tile, those of one (head, half)
// next to each other so that its keys stay in L2; y chunk.
template <class T, int kRows>
__global__ void __launch_bounds__(kRows* kKeyColumns / 64, kMinBlocks)
    half_lists_kernel(Guard guard, HalfLists a, Operand<T> query, Operand<T> keys) {
  if (guard.aborted()) return;
  using Storage = HalfListsStorage<T, kRows>;
  Storage& s = shared<Storage>();
  const int64_t tiles = (a.T + kRows - 1) / kRows, t0 = blockIdx.x % tiles * kRows;
  const auto capacity = static_cast<int>(list_capacity(a.k)),  // k <= n < 2^16
      hp = static_cast<int>(blockIdx.x / tiles), begin = static_cast<int>(blockIdx.y * a.chunk),
             end = static_cast<int>(begin + a.chunk < a.n ? begin + a.chunk : a.n);
  const int rows = a.T - t0 < kRows ? static_cast<int>(a.T - t0) : kRows;
  query.data += hp * a.d;
  keys.data += hp * a.n * a.d;
  const int64_t list0 = ((blockIdx.y * a.T + t0) * 2 * a.H + hp) * capacity;
  if (threadIdx.x == 0) s.list0 = list0;
  const auto list_at = [&](int64_t first, int row) {
    return a.lists + first + row * 2 * a.H * capacity;
  };
  const auto list = [&](int row) { return list_at(s.list0, row); };

  for (int row = warp_of_block(); row < rows; row += Storage::kWarps) {
    if (a.k > kWarp)
      for (int i = lane(); i < capacity; i += kWarp) list_at(list0, row)[i] = 0;
    if (lane() == 0) {
      s.thresholds[row] = kUnselectable;
      s.counts[row] = 0;
    }
  }
  for (int column0 = begin; column0 < end; column0 += kKeyColumns) {
    typename Storage::Product product;
    multiply_tile<kHalfListsStages>(product, s.ring, query, t0, a.T, keys, column0, end, 0, a.d);
    product.for_each_run([&](int row, int column, const float* sums) {
      constexpr int kRun = Storage::Product::kRun;
      Pack<float, kRun> run;
#pragma unroll
      for (int e = 0; e < kRun; ++e) run.v[e] = sums[e];
      store<kRun>(s.scores + row * Storage::kPitch + column, run);
    });
    for (int word = warp_of_block(); word < kTileWords; word += Storage::kWarps) {
      const int j = column0 + word * kWarp + lane();
      const uint32_t bits = ballot(j < end && (!a.mask || a.mask[hp * a.n + j] != 0));
      if (lane() == 0) s.selectable[word] = bits;
    }
    block_sync();
    select_from_tile(s, rows, a.k, column0, column0 == begin, list);
    block_sync();
  }
  for (int row = warp_of_block(); row < rows; row += Storage::kWarps) {
    warp_sync();
    RowSelection best = selection(s, row, list(row), a.k);
    if (best.count > 0) best.merge();
  }
}

template <class T, int kRows>
void launch_half_lists(CudaStream& stream, const HalfLists& a, const Operand<T>& query,
                       const Operand<T>& keys) {
  using Storage = HalfListsStorage<T, kRows>;
  const int64_t tiles = (a.T + kRows - 1) / kRows;
  launch(half_lists_kernel<T, kRows>,
         dim3(grid_width(tiles * 2 * a.H), static_cast<unsigned>(a.chunks)),
         dim3(Storage::Product::kThreads), sizeof(Storage), stream, a, query, keys);
}

// Finds the lists of the best half-keys of each chunk; sets a's lists, chunk and chunks. The best
// of all chunks do not depend on how the work is cut.
template <class T>
void find_half_lists(CudaStream& stream, const T* query, const T* keys, HalfLists& a) {
  Operand<T> q = Operand<T>::of(query, a.d);
  q.stride = 2 * a.H * a.d;
  const int64_t rows = a.T * 2 * a.H, capacity = list_capacity(a.k),
                multiprocessors = stream.limits().multiprocessors;
  const bool large = a.T > kSmallTileTokens;
  const int64_t tile = large ? kLargeTileTokens : kSmallTileTokens;
  const int64_t blocks = (a.T + tile - 1) / tile * 2 * a.H;
  int64_t chunks = blocks < multiprocessors ? 2 * multiprocessors / blocks : 1;
  const int64_t max_chunks = (a.n + kKeyColumns - 1) / kKeyColumns;
  if (chunks > max_chunks) chunks = max_chunks;
  a.chunk = ((a.n + chunks - 1) / chunks + kKeyColumns - 1) / kKeyColumns * kKeyColumns;
  a.chunks = (a.n + a.chunk - 1) / a.chunk;
  a.lists = stream.scratch<uint64_t>(a.chunks * rows * capacity);
  const Operand<T> k = Operand<T>::of(keys, a.d);
  large ? launch_half_lists<T, kLargeTileTokens>(stream, a, q, k)
        : launch_half_lists<T, kSmallTileTokens>(stream, a, q, k);
}

}  // namespace
}  // namespace ml::ML_CUDA_NAMESPACE
