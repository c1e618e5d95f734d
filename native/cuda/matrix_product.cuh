#pragma once
// C[M, N] (+)= A[M, K] B[K, N] (+ bias), for a batch of matrices, over the tile products of
// gemm.cuh. Where K is long and C small, K is split, and the products of the splits are added in
// order. The number of splits depends on the shape alone, and so does the result.

#include "cuda/gemm.cuh"
#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {

template <class A, class B>
struct MatrixProduct {
  float* c;
  int64_t ldc;
  Operand<A> a;
  Operand<B> b;
  int64_t M, N, K;
  const float* bias;  // [N], or nullptr
  bool accumulate;    // to c
  int64_t batches = 1;
  int64_t a_batch = 0, b_batch = 0, c_batch = 0;  // elements from one matrix to the next
};

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
};

// The block stores the staged rows, from row0 of the tile on; each thread kVec elements at a time,
// always of the same columns.
template <int kVec, int kTile, int kThreads>
__device__ inline void store_rows(const OutputTile& to, const StagedRows<kTile>& s, int row0) {
  constexpr int kThreadsPerRow = kTile / kVec, kRowsPerStep = kThreads / kThreadsPerRow;
  static_assert(kThreads % kThreadsPerRow == 0);
  const int column = thread_of_block() % kThreadsPerRow * kVec;
  if (column >= to.columns) return;
  const Pack<float, kVec> bias = to.bias ? load<kVec>(to.bias + column) : Pack<float, kVec>{};
#pragma unroll 2
  for (int row = thread_of_block() / kThreadsPerRow;
       row < StagedRows<kTile>::kRows && row0 + row < to.rows; row += kRowsPerStep) {
    float* c = to.c + (row0 + row) * to.ldc + column;
    Pack<float, kVec> v = load<kVec>(s.v + row * StagedRows<kTile>::kPitch + column);
    if (to.accumulate) {
      const Pack<float, kVec> old = load<kVec>(c);
#pragma unroll
      for (int e = 0; e < kVec; ++e) v.v[e] += old.v[e];
    }
    if (to.bias) {
#pragma unroll
      for (int e = 0; e < kVec; ++e) v.v[e] += bias.v[e];
    }
    store<kVec>(c, v);
  }
}

// The block stores its sums to a tile of C, by way of rows in shared memory, where the ring was.
template <int kTile, class Product>
__device__ inline void store_tile(const Product& product, const OutputTile& to) {
  const bool vec4 =
      (to.ldc | to.columns) % 4 == 0 &&
      (reinterpret_cast<uintptr_t>(to.c) | reinterpret_cast<uintptr_t>(to.bias)) % 16 == 0;
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
    vec4 ? store_rows<4, kTile, Product::kThreads>(to, s, first)
         : store_rows<1, kTile, Product::kThreads>(to, s, first);
  }
}

// Of `total` rows or columns those in a tile from `first` on.
template <int kTile>
__device__ inline int inside_tile(int64_t first, int64_t total) {
  const int64_t left = total - first;
  return left < 0 ? 0 : (left < kTile ? static_cast<int>(left) : kTile);
}

// One block computes one tile of C for one split of K, `split_depth` long. blockIdx: x tile, along
// the columns first; y split; z matrix. Splits go to `partials` [splits, M, N]; with nullptr there
// is one, and it goes to C.
template <class Product, int kTile, class A, class B>
__global__ void __launch_bounds__(Product::kThreads,
                                  Product::kThreadsPerMultiprocessor / Product::kThreads)
    product_kernel(Guard guard, float* partials, MatrixProduct<A, B> p, int64_t split_depth) {
  if (guard.aborted()) return;
  const unsigned column_tiles = static_cast<unsigned>((p.N + kTile - 1) / kTile);
  const int64_t row0 = static_cast<int64_t>(blockIdx.x / column_tiles) * kTile,
                column0 = static_cast<int64_t>(blockIdx.x % column_tiles) * kTile;
  const int64_t k0 = blockIdx.y * split_depth;
  const int64_t k1 = k0 + split_depth < p.K ? k0 + split_depth : p.K;
  p.a.data += blockIdx.z * p.a_batch;
  p.b.data += blockIdx.z * p.b_batch;
  Product product;
  multiply_tile(product, reinterpret_cast<typename Product::Stage*>(shared_bytes()), p.a, row0, p.M,
                p.b, column0, p.N, k0, k1);

  const int64_t ldc = partials ? p.N : p.ldc;
  float* c = partials ? partials + blockIdx.y * p.M * p.N : p.c + blockIdx.z * p.c_batch;
  store_tile<kTile>(product, {.c = c + row0 * ldc + column0,
                              .ldc = ldc,
                              .bias = partials || !p.bias ? nullptr : p.bias + column0,
                              .rows = inside_tile<kTile>(row0, p.M),
                              .columns = inside_tile<kTile>(column0, p.N),
                              .accumulate = p.accumulate && !partials});
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

template <class Product, int kTile, class A, class B>
void launch_product(CudaStream& stream, const MatrixProduct<A, B>& p, int64_t max_splits) {
  int64_t split_depth = (p.K + max_splits - 1) / max_splits;
  split_depth = (split_depth + Product::kDepth - 1) / Product::kDepth * Product::kDepth;
  const int64_t splits = p.K == 0 ? 1 : (p.K + split_depth - 1) / split_depth;
  float* partials = splits > 1 ? stream.scratch<float>(splits * p.M * p.N) : nullptr;
  const dim3 grid(grid_width(tiles_of(p.M, p.N, kTile)), static_cast<unsigned>(splits),
                  static_cast<unsigned>(p.batches));
  launch(product_kernel<Product, kTile, A, B>, grid, dim3(Product::kThreads),
         kProductSharedBytes<Product, kTile>, stream, partials, p, split_depth);
  if (partials)
    launch(add_splits_kernel, dim3(blocks_for(p.M * p.N, kThreads)), dim3(kThreads), 0, stream, p.c,
           partials, p.ldc, splits, p.M, p.N, p.bias, p.accumulate);
}

// Product<kTile>::type is the tile product to use; kWithLarge: also with large tiles. K is split
// only where there is one matrix.
template <template <int> class Product, bool kWithLarge, class A, class B>
void multiply(CudaStream& stream, const MatrixProduct<A, B>& p) {
  if (p.M == 0 || p.N == 0) return;
  const int64_t threads = tiles_of(p.M, p.N, kSmallTile) * kSmallTile * p.batches;
  int64_t splits = p.batches > 1 ? 1 : kTargetThreads / threads;
  splits = splits < p.K / kMinSplitDepth ? splits : p.K / kMinSplitDepth;
  splits = splits < 1 ? 1 : (splits < kMaxSplits ? splits : kMaxSplits);
  if constexpr (kWithLarge) {
    const int64_t large = tiles_of(p.M, p.N, kLargeTile) * splits * p.batches;
    if (large >= stream.limits().multiprocessors * kLargeTilesPerMultiprocessor)
      return launch_product<typename Product<kLargeTile>::type, kLargeTile>(stream, p, splits);
  }
  launch_product<typename Product<kSmallTile>::type, kSmallTile>(stream, p, splits);
}

}  // namespace
}  // namespace ml::ML_CUDA_NAMESPACE
