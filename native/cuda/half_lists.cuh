#pragma once
// The first half of a product-key lookup: the best k half-keys of each (token, head, half), as
// order keys. Scores live in a tile of shared memory, a few keys wide, and are gone when its best
// have been taken: they never reach global memory.

#include "cuda/gemm.cuh"
#include "cuda/launch.cuh"
#include "cuda/select.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {

struct HalfLists {
  uint64_t* lists;      // [pieces, T, H, 2, list_room(k)]
  const uint8_t* mask;  // [H, 2, n], or nullptr
  int64_t T, H, n, d, k;
  int64_t piece;  // half-keys for one block: n, or fewer where tokens are few
};

namespace {

constexpr int kKeyColumns = 128;  // half-keys of a tile
// tokens of a tile: fewer leave more shared memory to long lists
constexpr int kManyRows = 64, kFewRows = 32;
// at most that the shared memory of a multiprocessor holds: its registers are theirs
constexpr int kBlocks = 3;
constexpr uint32_t kUnselectable = 0x007fffff;  // ordered_bits(-Infinity)

template <class T, int kRows>
struct HalfTile {
  using Product = typename ProductAlong<T, kRows, kKeyColumns>::type;
  // Eight banks more than a row: the four rows that a warp writes at once then lie in different
  // banks.
  static constexpr int kPitch = kKeyColumns + 8;
  static constexpr int kWarps = Product::kThreads / kWarp;
  union {
    typename Product::Stage ring[kStages];
    alignas(16) float scores[kRows * kPitch];
  };
  uint64_t buffers[kRows][kWarp];
  uint32_t thresholds[kRows];
  int counts[kRows];
  uint32_t open[kKeyColumns / kWarp];  // which half-keys of the tile may be selected
};

// One block lists the best of one piece of the half-keys for kRows tokens and one (head, half);
// each warp keeps the lists of its rows. blockIdx: x token tile, all of one (head, half) together
// so that its keys stay in L2; y piece. The lists lie in shared memory behind the tile, or in
// global memory where they are too long.
template <class T, int kRows>
__global__ void __launch_bounds__(kRows* kKeyColumns / 64, kBlocks)
    half_lists_kernel(Guard guard, HalfLists a, Operand<T> query, Operand<T> keys,
                      bool shared_lists) {
  if (guard.aborted()) return;
  using Tile = HalfTile<T, kRows>;
  Tile& s = shared<Tile>();
  const int64_t room = list_room(a.k), tiles = (a.T + kRows - 1) / kRows;
  const int64_t hp = blockIdx.x / tiles, t0 = blockIdx.x % tiles * kRows;
  const int64_t begin = blockIdx.y * a.piece, end = begin + a.piece < a.n ? begin + a.piece : a.n;
  const int rows = a.T - t0 < kRows ? static_cast<int>(a.T - t0) : kRows;
  query.data += hp * a.d;
  keys.data += hp * a.n * a.d;
  uint64_t* own_lists = reinterpret_cast<uint64_t*>(&s + 1);
  const auto result = [&](int row) {
    return a.lists + ((blockIdx.y * a.T + t0 + row) * 2 * a.H + hp) * room;
  };
  const auto list = [&](int row) { return shared_lists ? own_lists + row * room : result(row); };

  for (int row = warp_of_block(); row < rows; row += Tile::kWarps) {
    for (int64_t i = lane(); i < room; i += kWarp) list(row)[i] = 0;
    if (lane() == 0) {
      s.thresholds[row] = kUnselectable;
      s.counts[row] = 0;
    }
  }
  for (int64_t column0 = begin; column0 < end; column0 += kKeyColumns) {
    typename Tile::Product product;
    multiply_tile(product, s.ring, query, t0, a.T, keys, column0, end, 0, a.d);
    product.each([&](int row, int column, const float* sums) {
      constexpr int kRun = Tile::Product::kRun;
      Pack<float, kRun> run;
#pragma unroll
      for (int e = 0; e < kRun; ++e) run.v[e] = sums[e];
      store<kRun>(s.scores + row * Tile::kPitch + column, run);
    });
    for (int word = warp_of_block(); word < kKeyColumns / kWarp; word += Tile::kWarps) {
      const int64_t j = column0 + word * kWarp + lane();
      const uint32_t bits = ballot(j < end && (!a.mask || a.mask[hp * a.n + j] != 0));
      if (lane() == 0) s.open[word] = bits;
    }
    block_sync();
    for (int row = warp_of_block(); row < rows; row += Tile::kWarps) {
      Selection best{list(row), s.buffers[row], room, a.k, s.counts[row], s.thresholds[row]};
      const auto bits = [&](int word) {
        return s.open[word] >> lane() & 1
                   ? ordered_bits(s.scores[row * Tile::kPitch + word * kWarp + lane()])
                   : 0;
      };
      uint32_t greatest = 0;
#pragma unroll
      for (int word = 0; word < kKeyColumns / kWarp; ++word)
        greatest = bits(word) > greatest ? bits(word) : greatest;
      if (!any(greatest > best.threshold)) continue;  // most tiles, once the list is good
#pragma unroll 1
      for (int word = 0; word < kKeyColumns / kWarp; ++word)
        best.offer(bits(word), static_cast<uint32_t>(column0 + word * kWarp + lane()));
      warp_sync();
      if (lane() == 0) {
        s.thresholds[row] = best.threshold;
        s.counts[row] = best.count;
      }
    }
    block_sync();
  }
  for (int row = warp_of_block(); row < rows; row += Tile::kWarps) {
    warp_sync();
    Selection best{list(row), s.buffers[row], room, a.k, s.counts[row], s.thresholds[row]};
    if (best.count > 0) best.merge();
    if (shared_lists)
      for (int64_t i = lane(); i < room; i += kWarp) result(row)[i] = best.list[i];
  }
}

// One warp joins the lists of the pieces of one row into the first.
__global__ void __launch_bounds__(kThreads)
    join_lists_kernel(Guard guard, uint64_t* lists, int64_t rows, int64_t room, int64_t pieces) {
  if (guard.aborted()) return;
  // [0, rows) and past it
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kThreads / kWarp) + warp_of_block();
  if (row < rows)
    for (int64_t p = 1; p < pieces; ++p)
      insert_list(lists + row * room, room, lists + (p * rows + row) * room);
}

template <class T, int kRows>
void launch_half_lists(CudaStream& stream, const HalfLists& a, const Operand<T>& query,
                       const Operand<T>& keys, int64_t pieces) {
  using Tile = HalfTile<T, kRows>;
  const size_t listed =
      sizeof(Tile) + static_cast<size_t>(kRows * list_room(a.k)) * sizeof(uint64_t);
  const bool fits = listed <= static_cast<size_t>(stream.limits().shared_per_block);
  const int64_t tiles = (a.T + kRows - 1) / kRows;
  launch(half_lists_kernel<T, kRows>,
         dim3(static_cast<unsigned>(tiles * 2 * a.H), static_cast<unsigned>(pieces)),
         dim3(Tile::Product::kThreads), fits ? listed : sizeof(Tile), stream, a, query, keys, fits);
}

// The lists [T, H, 2, list_room(k)] of the best min(k, n) half-keys. The outcome doesn't depend on
// how the work is cut.
template <class T>
const uint64_t* half_lists(CudaStream& stream, const T* query, const T* keys, HalfLists a) {
  Operand<T> q = Operand<T>::of(query, a.d);
  q.stride = 2 * a.H * a.d;
  const int64_t rows = a.T * 2 * a.H, room = list_room(a.k),
                processors = stream.limits().multiprocessors;
  const size_t many_bytes =
      sizeof(HalfTile<T, kManyRows>) + static_cast<size_t>(kManyRows * room) * sizeof(uint64_t);
  const bool many =
      a.T > kFewRows &&
      2 * many_bytes <= static_cast<size_t>(stream.limits().shared_per_multiprocessor);
  const int64_t tile = many ? kManyRows : kFewRows;
  const int64_t blocks = (a.T + tile - 1) / tile * 2 * a.H;
  int64_t pieces = blocks < processors ? 2 * processors / blocks : 1;
  const int64_t most = (a.n + kKeyColumns - 1) / kKeyColumns;
  if (pieces > most) pieces = most;
  a.piece = ((a.n + pieces - 1) / pieces + kKeyColumns - 1) / kKeyColumns * kKeyColumns;
  pieces = (a.n + a.piece - 1) / a.piece;
  a.lists = stream.scratch<uint64_t>(pieces * rows * room);
  if (many) {
    launch_half_lists<T, kManyRows>(stream, a, q, Operand<T>::of(keys, a.d), pieces);
  } else {
    launch_half_lists<T, kFewRows>(stream, a, q, Operand<T>::of(keys, a.d), pieces);
  }
  if (pieces > 1)
    launch(join_lists_kernel, dim3(blocks_for(rows, kThreads / kWarp)), dim3(kThreads), 0, stream,
           a.lists, rows, room, pieces);
  return a.lists;
}

}  // namespace
}  // namespace ml::ML_CUDA_NAMESPACE
