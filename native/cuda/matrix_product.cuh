#pragma once
// C[M, N] (+)= A[M, K] B[K, N] (+ bias), for a batch of matrices, over the tile product of
// gemm.cuh. Where K is long and C small, K is cut into pieces whose products are added in order.
// The number of pieces depends on the shape alone, and so do the bits.

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
  // elements from one matrix to the next
  int64_t batches = 1, a_batch = 0, b_batch = 0, c_batch = 0;
};

namespace {

constexpr int kLargeTile = 128, kSmallTile = 64;
// fewer large tiles than this leave processors idle
constexpr int64_t kLargeTilesPerProcessor = 1;
// K is cut until so many threads work: 500 and more on each of 132 or 142 processors
constexpr int64_t kWantedThreads = 1 << 17;
constexpr int64_t kLeastPiece = 256, kMostPieces = 64;  // of K

// Rows of a tile of C in shared memory, on their way out: sums lie in a thread as the products want
// them, and leave as whole rows.
template <int kTile>
struct OutRows {
  static constexpr int kRows = 64;
  // eight banks more than a row: the four rows that a warp writes at once lie in different ones
  static constexpr int kPitch = kTile + 8;
  alignas(16) float v[kRows * kPitch];
};

template <class Product, int kTile>
constexpr size_t kProductBytes = kStages * sizeof(typename Product::Stage) > sizeof(OutRows<kTile>)
                                     ? kStages * sizeof(typename Product::Stage)
                                     : sizeof(OutRows<kTile>);

// Where a tile of C goes: `rows` by `columns` of it lie inside C.
struct Target {
  float* c;
  int64_t ldc;
  const float* bias;  // of the tile's first column on, or nullptr
  int rows, columns;
  bool accumulate;
};

// The block stores the tile's rows row0 …; each thread kVec elements at once, always of the same
// columns.
template <int kVec, int kTile, int kThreads>
__device__ inline void store_rows(const Target& to, const OutRows<kTile>& s, int row0) {
  constexpr int kAcross = kTile / kVec, kTogether = kThreads / kAcross;  // threads of a row, rows
  static_assert(kThreads % kAcross == 0);
  const int column = thread_of_block() % kAcross * kVec;
  if (column >= to.columns) return;
  const Pack<float, kVec> bias = to.bias ? load<kVec>(to.bias + column) : Pack<float, kVec>{};
#pragma unroll 2
  for (int row = thread_of_block() / kAcross; row < OutRows<kTile>::kRows && row0 + row < to.rows;
       row += kTogether) {
    float* c = to.c + (row0 + row) * to.ldc + column;
    Pack<float, kVec> v = load<kVec>(s.v + row * OutRows<kTile>::kPitch + column);
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

// One block computes a tile of C for one piece of K. blockIdx: x tile, columns first; y piece; z
// matrix. piece: its length. Pieces go to `partials` [pieces, M, N], or straight to C where there
// is one.
template <class Product, int kTile, class A, class B>
__global__ void __launch_bounds__(Product::kThreads, 512 / Product::kThreads)
    product_kernel(Guard guard, float* partials, MatrixProduct<A, B> p, int64_t piece) {
  if (guard.aborted()) return;
  const unsigned across = static_cast<unsigned>((p.N + kTile - 1) / kTile);
  const int64_t row0 = static_cast<int64_t>(blockIdx.x / across) * kTile,
                column0 = static_cast<int64_t>(blockIdx.x % across) * kTile;
  const int64_t k0 = blockIdx.y * piece, k1 = k0 + piece < p.K ? k0 + piece : p.K;
  p.a.data += blockIdx.z * p.a_batch;
  p.b.data += blockIdx.z * p.b_batch;
  Product product;
  multiply_tile(product, reinterpret_cast<typename Product::Stage*>(shared_bytes()), p.a, row0, p.M,
                p.b, column0, p.N, k0, k1);

  const int64_t ldc = partials ? p.N : p.ldc;
  const Target to{(partials ? partials + blockIdx.y * p.M * p.N : p.c + blockIdx.z * p.c_batch) +
                      row0 * ldc + column0,
                  ldc,
                  partials || !p.bias ? nullptr : p.bias + column0,
                  p.M - row0 < kTile ? static_cast<int>(p.M - row0) : kTile,
                  p.N - column0 < kTile ? static_cast<int>(p.N - column0) : kTile,
                  p.accumulate && !partials};
  const bool packed =
      (ldc | to.columns) % 4 == 0 &&
      (reinterpret_cast<uintptr_t>(to.c) | reinterpret_cast<uintptr_t>(to.bias)) % 16 == 0;
  OutRows<kTile>& s = shared<OutRows<kTile>>();
#pragma unroll 1
  for (int first = 0; first < kTile && first < to.rows; first += OutRows<kTile>::kRows) {
    if (first > 0) block_sync();
    product.each([&](int row, int column, const float* sums) {
      if (row / OutRows<kTile>::kRows * OutRows<kTile>::kRows != first) return;
      Pack<float, Product::kRun> run;
#pragma unroll
      for (int e = 0; e < Product::kRun; ++e) run.v[e] = sums[e];
      store<Product::kRun>(s.v + (row - first) * OutRows<kTile>::kPitch + column, run);
    });
    block_sync();
    packed ? store_rows<4, kTile, Product::kThreads>(to, s, first)
           : store_rows<1, kTile, Product::kThreads>(to, s, first);
  }
}

// One thread adds the pieces of an element in order.
__global__ void __launch_bounds__(kThreads)
    add_pieces_kernel(Guard guard, float* c, const float* partials, int64_t ldc, int64_t pieces,
                      int64_t M, int64_t N, const float* bias, bool accumulate) {
  if (guard.aborted()) return;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;  // [0, M * N)
  if (at < M * N) {
    float sum = partials[at];
    for (int64_t s = 1; s < pieces; ++s) sum += partials[s * M * N + at];
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
void launch_product(CudaStream& stream, const MatrixProduct<A, B>& p, int64_t pieces) {
  int64_t piece = (p.K + pieces - 1) / pieces;
  piece = (piece + Product::kDepth - 1) / Product::kDepth * Product::kDepth;
  const int64_t used = p.K == 0 ? 1 : (p.K + piece - 1) / piece;
  float* partials = used > 1 ? stream.scratch<float>(used * p.M * p.N) : nullptr;
  const dim3 grid(static_cast<unsigned>(tiles_of(p.M, p.N, kTile)), static_cast<unsigned>(used),
                  static_cast<unsigned>(p.batches));
  launch(product_kernel<Product, kTile, A, B>, grid, dim3(Product::kThreads),
         kProductBytes<Product, kTile>, stream, partials, p, piece);
  if (partials)
    launch(add_pieces_kernel, dim3(blocks_for(p.M * p.N, kThreads)), dim3(kThreads), 0, stream, p.c,
           partials, p.ldc, used, p.M, p.N, p.bias, p.accumulate);
}

// Product<tile>: the tile product to use. Only one matrix may be cut along K.
template <template <int> class Product, bool kWithLarge, class A, class B>
void multiply(CudaStream& stream, const MatrixProduct<A, B>& p) {
  if (p.M == 0 || p.N == 0) return;
  const int64_t threads = tiles_of(p.M, p.N, kSmallTile) * kSmallTile * p.batches;
  int64_t pieces = p.batches > 1 ? 1 : kWantedThreads / threads;
  pieces = pieces < p.K / kLeastPiece ? pieces : p.K / kLeastPiece;
  pieces = pieces < 1 ? 1 : (pieces < kMostPieces ? pieces : kMostPieces);
  if constexpr (kWithLarge) {
    const int64_t large = tiles_of(p.M, p.N, kLargeTile) * pieces * p.batches;
    if (large >= stream.limits().multiprocessors * kLargeTilesPerProcessor)
      return launch_product<typename Product<kLargeTile>::type, kLargeTile>(stream, p, pieces);
  }
  launch_product<typename Product<kSmallTile>::type, kSmallTile>(stream, p, pieces);
}

}  // namespace
}  // namespace ml::ML_CUDA_NAMESPACE
