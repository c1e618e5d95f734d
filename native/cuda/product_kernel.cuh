#pragma once
// The kernels of matrix products (cuda/matrix_product.cuh), over the tile products of gemm.cuh, and
// how they are launched.

#include "cuda/gemm.cuh"
#include "cuda/last_block.cuh"
#include "cuda/launch.cuh"
#include "cuda/matrix_product.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// Rows of a tile of C staged in shared memory: the threads' sums are scattered over the tile, and
// are stored to global memory as rows.
template <int kTile>
struct StagedRows {
  static constexpr int kRows = 64;
  // eight more than a row, so that the four rows that a warp writes at once are in different banks
  static constexpr int kPitch = kTile + 8;
  alignas(16) float v[kRows * kPitch];
};

template <class Product, int kTile>
constexpr size_t kProductSharedBytes = kStages * sizeof(typename Product::Stage) >
                                               sizeof(StagedRows<kTile>)
                                           ? kStages * sizeof(typename Product::Stage)
                                           : sizeof(StagedRows<kTile>);

// A tile of C in global memory: `rows` by `columns` of it are inside C.
struct OutputTile {
  float* c;
  int64_t ldc;
  const float* bias;  // of the tile's first column on, or nullptr
  int rows, columns;
  bool accumulate;

  __device__ bool vec4() const {
    return (ldc | columns) % 4 == 0 &&
           (reinterpret_cast<uintptr_t>(c) | reinterpret_cast<uintptr_t>(bias)) % 16 == 0;
  }
};

// The block stores the rows [row0, row0 + rows) of a tile of kTile columns, each thread kVec
// elements at a time, always of the same columns. sums(row, column): what is stored there, but for
// bias and old elements.
template <int kVec, int kTile, int kThreads, class Sums>
__device__ inline void store_rows(const OutputTile& to, int row0, int rows, Sums sums) {
  constexpr int kThreadsPerRow = kTile / kVec, kRowsPerStep = kThreads / kThreadsPerRow;
  static_assert(kThreads % kThreadsPerRow == 0);
  const int column = thread_of_block() % kThreadsPerRow * kVec;
  if (column >= to.columns) return;
  const Pack<float, kVec> bias = load_if<kVec>(to.bias != nullptr, to.bias + column);
#pragma unroll(kVec == 4 ? 2 : 1)
  for (int row = row0 + thread_of_block() / kThreadsPerRow; row < row0 + rows;
       row += kRowsPerStep) {
    float* c = to.c + row * to.ldc + column;
    const Pack<float, kVec> old = load_if<kVec>(to.accumulate, c);
    Pack<float, kVec> v = sums(row, column);
#pragma unroll
    for (int e = 0; e < kVec; ++e) v.v[e] = v.v[e] + old.v[e] + bias.v[e];
    store<kVec>(c, v);
  }
}

// The staged rows, from row0 of the tile on.
template <int kVec, int kThreads, int kTile>
__device__ inline void store_staged(const OutputTile& to, const StagedRows<kTile>& s, int row0) {
  const int left = to.rows - row0, rows = left < s.kRows ? left : s.kRows;
  store_rows<kVec, kTile, kThreads>(to, row0, rows, [&](int row, int column) {
    return load<kVec>(s.v + (row - row0) * s.kPitch + column);
  });
}

// The block stores its sums to a tile of C, by way of rows in shared memory, where the ring was.
template <int kTile, class Product>
__device__ inline void store_tile(const Product& product, const OutputTile& to) {
  const bool vec4 = to.vec4();
  StagedRows<kTile>& s = shared<StagedRows<kTile>>();
#pragma unroll 1
  for (int first = 0; first < kTile && first < to.rows; first += StagedRows<kTile>::kRows) {
    if (first > 0) block_sync();
    product.for_each_run([&](int row, int column, const float* sums) {
      if (row / StagedRows<kTile>::kRows * StagedRows<kTile>::kRows != first) return;
      Pack<float, Product::kRun> run;
#pragma unroll
      for (int e = 0; e < Product::kRun; ++e) run.v[e] = sums[e];
      store<Product::kRun>(s.v + (row - first) * StagedRows<kTile>::kPitch + column, run);
    });
    block_sync();
    vec4 ? store_staged<4, Product::kThreads>(to, s, first)
         : store_staged<1, Product::kThreads>(to, s, first);
  }
}

// The block adds the splits of a tile of C, in order: up to kFusedSplits, the first of them at
// from, each `step` after the one before, with the pitch N.
template <int kTile, int kThreads>
__device__ inline void add_splits(const OutputTile& to, const float* from, int64_t N, int64_t step,
                                  int splits) {
  store_rows<4, kTile, kThreads>(to, 0, to.rows, [&](int row, int column) {
    Pack<float, 4> split[kFusedSplits];
#pragma unroll
    for (int s = 0; s < kFusedSplits; ++s)
      split[s] = load_if<4>(s < splits, from + s * step + row * N + column);
#pragma unroll
    for (int s = 1; s < kFusedSplits; ++s)
#pragma unroll
      for (int e = 0; e < 4; ++e) split[0].v[e] += split[s].v[e];
    return split[0];
  });
}

// What a block computes: the rows [row0, rows) and the columns from column0 on of a matrix of C,
// over the depths [k0, k1). A tile of a group may have no rows; neither does a group without
// depths.
struct BlockTile {
  int64_t row0, rows, column0, k0, k1;
  int64_t b_matrix, c_matrix;  // of the batch, or the group
  bool grouped;

  __device__ bool empty() const { return grouped && row0 >= rows; }
};

// The rows of groups are cut into tiles at their beginnings: group g has the tiles from offsets[g]
// / kTile + g on. That many are enough for the groups before it, and at most one tile of each group
// is empty.
template <int kTile>
__device__ inline void find_group_rows(BlockTile& t, const RowGroups& groups, int64_t tile) {
  int64_t low = 0, high = groups.count;  // the group of the tile: low <= it < high
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (groups.offsets[middle] / kTile + middle <= tile ? low : high) = middle;
  }
  const int64_t begin = groups.offsets[low];
  t.row0 = begin + (tile - (begin / kTile + low)) * kTile;
  t.rows = groups.offsets[low + 1];
  t.b_matrix = low;
}

// blockIdx: x tile, along the columns first, then the rows, then the groups of depths; y split; z
// matrix.
template <int kTile, class A, class B>
__device__ inline BlockTile tile_of_block(const MatrixProduct<A, B>& p, int64_t split_depth) {
  const auto column_tiles = static_cast<unsigned>((p.N + kTile - 1) / kTile);
  const unsigned tile = blockIdx.x / column_tiles;
  const int64_t k0 = blockIdx.y * split_depth;
  BlockTile t{.row0 = int64_t{tile} * kTile,
              .rows = p.M,
              .column0 = int64_t{blockIdx.x % column_tiles} * kTile,
              .k0 = k0,
              .k1 = k0 + split_depth < p.K ? k0 + split_depth : p.K,
              .b_matrix = blockIdx.z,
              .c_matrix = blockIdx.z,
              .grouped = p.groups.offsets != nullptr};
  if (!t.grouped) return t;
  if (p.groups.of == RowGroups::Of::rows) {
    find_group_rows<kTile>(t, p.groups, tile);
  } else {
    const auto row_tiles = static_cast<unsigned>((p.M + kTile - 1) / kTile);
    const unsigned group = tile / row_tiles;
    t.row0 = int64_t{tile % row_tiles} * kTile;
    t.k0 = p.groups.offsets[group];
    t.k1 = p.groups.offsets[group + 1];
    t.rows = t.k0 < t.k1 ? p.M : 0;
    t.c_matrix = group;
  }
  return t;
}

// Of `total` rows or columns those in a tile from `first` on.
template <int kTile>
__device__ inline int inside_tile(int64_t first, int64_t total) {
  const int64_t left = total - first;
  return left < 0 ? 0 : (left < kTile ? static_cast<int>(left) : kTile);
}

// The tile of C that a block computes, in p.c.
template <int kTile, class A, class B>
__device__ inline OutputTile output_tile(const MatrixProduct<A, B>& p, const BlockTile& t) {
  return {.c = p.c + t.c_matrix * p.c_batch + t.row0 * p.ldc + t.column0,
          .ldc = p.ldc,
          .bias = p.bias ? p.bias + t.b_matrix * p.N + t.column0 : nullptr,
          .rows = inside_tile<kTile>(t.row0, t.rows),
          .columns = inside_tile<kTile>(t.column0, p.N),
          .accumulate = p.accumulate};
}

// Splits of K, which go to `partials` [splits, M, N]; nullptr: there is one, and it goes to C.
struct Splits {
  float* partials;
  int64_t depth;  // of each
  bool fused;     // the last block of a tile adds them: C and N are for packs of four
};

// One block computes one tile of C for one split of K.
template <class Product, int kTile, class A, class B>
__global__ void __launch_bounds__(Product::kThreads,
                                  Product::kThreadsPerMultiprocessor / Product::kThreads)
    product_kernel(Guard guard, MatrixProduct<A, B> p, Splits splits) {
  if (guard.aborted()) return;
  Product product;
  {
    const BlockTile t = tile_of_block<kTile>(p, splits.depth);
    if (t.empty()) return;  // all threads
    p.a.data += blockIdx.z * p.a_batch;
    p.b.data += t.b_matrix * p.b_batch;
    multiply_tile(product, reinterpret_cast<typename Product::Stage*>(shared_bytes()), p.a, t.row0,
                  t.rows, p.b, t.column0, p.N, t.k0, t.k1);
  }
  // found again: registers are short while the product is computed
  const BlockTile t = tile_of_block<kTile>(p, splits.depth);
  const OutputTile to = output_tile<kTile>(p, t);
  if (!splits.partials) return store_tile<kTile>(product, to);
  const int64_t at = t.row0 * p.N + t.column0, step = p.M * p.N;
  store_tile<kTile>(product, {.c = splits.partials + blockIdx.y * step + at,
                              .ldc = p.N,
                              .bias = nullptr,
                              .rows = to.rows,
                              .columns = to.columns,
                              .accumulate = false});
  if (splits.fused && arrives_last(guard, shared<LastBlock>(), blockIdx.x, gridDim.y))
    add_splits<kTile, Product::kThreads>(to, splits.partials + at, p.N, step,
                                         static_cast<int>(gridDim.y));
}

// One thread adds the splits of one element of C, in order.
[[maybe_unused]] __global__ void __launch_bounds__(kThreads)
    add_splits_kernel(Guard guard, float* c, const float* partials, int64_t ldc, int64_t splits,
                      int64_t M, int64_t N, const float* bias, bool accumulate) {
  if (guard.aborted()) return;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;  // [0, M * N)
  if (at < M * N) {
    float sum = partials[at];
    for (int64_t s = 1; s < splits; ++s) sum += partials[s * M * N + at];
    float* to = c + at / N * ldc + at % N;
    if (accumulate) sum += *to;
    if (bias) sum += bias[at % N];
    *to = sum;
  }
}

inline int64_t tiles_of(int64_t M, int64_t N, int tile) {
  return (M + tile - 1) / tile * ((N + tile - 1) / tile);
}

// The blocks of one matrix and split: as many as the groups can have tiles.
template <class A, class B>
int64_t blocks_of(const MatrixProduct<A, B>& p, int tile) {
  if (!p.groups.offsets) return tiles_of(p.M, p.N, tile);
  if (p.groups.of == RowGroups::Of::depth) return p.groups.count * tiles_of(p.M, p.N, tile);
  return (p.M / tile + p.groups.count) * tiles_of(1, p.N, tile);
}

template <class A, class B>
bool vec4(const MatrixProduct<A, B>& p) {
  return p.ldc % 4 == 0 && p.N % 4 == 0 && widest(p.c, 4) == 4 && widest(p.bias, 4) == 4;
}

template <class Product, int kTile, class A, class B>
void launch_product(CudaStream& stream, const MatrixProduct<A, B>& p, int64_t max_splits) {
  int64_t depth = (p.K + max_splits - 1) / max_splits;
  depth = (depth + Product::kDepth - 1) / Product::kDepth * Product::kDepth;
  const int64_t count = p.K == 0 ? 1 : (p.K + depth - 1) / depth;
  const Splits splits{.partials = count > 1 ? stream.scratch<float>(count * p.M * p.N) : nullptr,
                      .depth = depth,
                      .fused = count > 1 && count <= kFusedSplits && vec4(p)};
  const dim3 grid(grid_width(blocks_of(p, kTile)), static_cast<unsigned>(count),
                  static_cast<unsigned>(p.batches));
  launch(product_kernel<Product, kTile, A, B>, grid, dim3(Product::kThreads),
         kProductSharedBytes<Product, kTile>, stream, p, splits);
  if (splits.partials && !splits.fused)
    launch(add_splits_kernel, dim3(blocks_for(p.M * p.N, kThreads)), dim3(kThreads), 0, stream, p.c,
           splits.partials, p.ldc, count, p.M, p.N, p.bias, p.accumulate);
}

}  // namespace

template <bool kAKMajor, bool kBKMajor, class A, class B>
void multiply(CudaStream& stream, const MatrixProduct<A, B>& p) {
  if (p.M == 0 || p.N == 0) return;
  const int64_t threads = blocks_of(p, kSmallTile) * kSmallTile * p.batches;
  int64_t splits = p.batches > 1 || p.groups.offsets ? 1 : kTargetThreads / threads;
  splits = splits < p.K / kMinSplitDepth ? splits : p.K / kMinSplitDepth;
  splits = splits < 1 ? 1 : (splits < kMaxSplits ? splits : kMaxSplits);
  if constexpr (std::is_same_v<A, B>) {  // products of mixed dtypes are rare
    using Large = typename TileProduct<A, B, kAKMajor, kBKMajor, kLargeTile, kLargeTile>::type;
    const int64_t large = blocks_of(p, kLargeTile) * splits * p.batches;
    if (large >= stream.limits().multiprocessors * kLargeTilesPerMultiprocessor)
      return launch_product<Large, kLargeTile>(stream, p, splits);
  }
  using Small = typename TileProduct<A, B, kAKMajor, kBKMajor, kSmallTile, kSmallTile>::type;
  launch_product<Small, kSmallTile>(stream, p, splits);
}

}  // namespace ml::ML_CUDA_NAMESPACE
