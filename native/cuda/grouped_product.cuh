#pragma once
// Matrix products of groups of rows, over the tile products of gemm.cuh. The host does not know
// where groups begin: it launches as many blocks as the groups can have tiles, and each block finds
// its own.
//
// Group g has the tiles from offsets[g] / kTile + g on. That many are enough for the groups before
// it, and at most one tile of each group is empty.

#include "cuda/matrix_product.cuh"

namespace ml::ML_CUDA_NAMESPACE {

// Groups of rows: group g is offsets[g] … offsets[g + 1] of `rows`.
struct RowGroups {
  const int32_t* offsets;
  int64_t count, rows;
};

// C[r] = A[r] B[g] (+ bias[g]) for the rows r of group g; C [rows, N], B of N * K elements a group.
template <class A, class B>
struct GroupedProduct {
  float* c;
  Operand<A> a;
  Operand<B> b;
  RowGroups groups;
  int64_t N, K;
  const float* bias;  // [groups, N], or nullptr
};

// C[g] += A[g]^T B[g], summed over the rows of group g: A [rows, M], B [rows, N], C [groups, M, N].
template <class A, class B>
struct GroupSums {
  float* c;
  Operand<A> a;
  Operand<B> b;
  RowGroups groups;
  int64_t M, N;
};

namespace {

// Rows begin + first … of a group; `left` of them, of which a tile takes some; none in a tile that
// is not needed.
struct TileRows {
  int64_t group, begin, first, left;
};

template <int kTile>
__device__ inline TileRows rows_of_tile(const RowGroups& groups, int64_t tile) {
  int64_t low = 0, high = groups.count;  // the group of the tile: low <= it < high
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (groups.offsets[middle] / kTile + middle <= tile ? low : high) = middle;
  }
  const int64_t begin = groups.offsets[low], rows = groups.offsets[low + 1] - begin,
                first = (tile - (begin / kTile + low)) * kTile;
  return {.group = low, .begin = begin, .first = first, .left = rows > first ? rows - first : 0};
}

// Blocks of a multiprocessor. Finding a tile takes registers that a product alone does not need:
// of small blocks there are two less.
template <class Product>
constexpr int kGroupedBlocks =
    Product::kThreadsPerMultiprocessor / Product::kThreads - (Product::kThreads < 128 ? 2 : 0);

// One block computes one tile of C; blockIdx.x: along the columns first.
template <class Product, int kTile, class A, class B>
__global__ void __launch_bounds__(Product::kThreads, kGroupedBlocks<Product>)
    grouped_product_kernel(Guard guard, GroupedProduct<A, B> p) {
  if (guard.aborted()) return;
  const int64_t column_tiles = (p.N + kTile - 1) / kTile,
                column0 = blockIdx.x % column_tiles * kTile;
  const TileRows rows = rows_of_tile<kTile>(p.groups, blockIdx.x / column_tiles);
  if (rows.left == 0) return;  // all threads
  const int64_t row0 = rows.begin + rows.first;
  // Known before the product, which then needs fewer registers.
  const OutputTile to{.c = p.c + row0 * p.N + column0,
                      .ldc = p.N,
                      .bias = p.bias ? p.bias + rows.group * p.N + column0 : nullptr,
                      .rows = inside_tile<kTile>(0, rows.left),
                      .columns = inside_tile<kTile>(column0, p.N),
                      .accumulate = false};
  p.a.data += row0 * p.a.stride;
  p.b.data += rows.group * p.N * p.K;
  Product product;
  multiply_tile(product, reinterpret_cast<typename Product::Stage*>(shared_bytes()), p.a, 0,
                to.rows, p.b, column0, p.N, 0, p.K);
  store_tile<kTile>(product, to);
}

// One block adds one tile of one group's sums; blockIdx.x: along the columns first, then the rows.
template <class Product, int kTile, class A, class B>
__global__ void __launch_bounds__(Product::kThreads, kGroupedBlocks<Product>)
    group_sums_kernel(Guard guard, GroupSums<A, B> p) {
  if (guard.aborted()) return;
  const int64_t column_tiles = (p.N + kTile - 1) / kTile, row_tiles = (p.M + kTile - 1) / kTile;
  const int64_t column0 = blockIdx.x % column_tiles * kTile,
                row0 = blockIdx.x / column_tiles % row_tiles * kTile,
                group = blockIdx.x / column_tiles / row_tiles;
  const int begin = p.groups.offsets[group], depth = p.groups.offsets[group + 1] - begin;
  const OutputTile to{.c = p.c + (group * p.M + row0) * p.N + column0,
                      .ldc = p.N,
                      .bias = nullptr,
                      .rows = depth > 0 ? inside_tile<kTile>(row0, p.M) : 0,
                      .columns = inside_tile<kTile>(column0, p.N),
                      .accumulate = true};
  p.a.data += int64_t{begin} * p.a.stride + row0;
  p.b.data += int64_t{begin} * p.b.stride + column0;
  Product product;
  multiply_tile(product, reinterpret_cast<typename Product::Stage*>(shared_bytes()), p.a, 0,
                to.rows, p.b, 0, to.columns, 0, depth);
  store_tile<kTile>(product, to);
}

// Whether so many large tiles fill the device.
inline bool fills(CudaStream& stream, int64_t large_tiles) {
  return large_tiles >= stream.limits().multiprocessors * kLargeTilesPerMultiprocessor;
}

// Product and kWithLarge as of multiply() (cuda/matrix_product.cuh).
template <template <int> class Product, bool kWithLarge, class A, class B>
void multiply_groups(CudaStream& stream, const GroupedProduct<A, B>& p) {
  if (p.groups.rows == 0 || p.N == 0) return;
  const auto start = [&]<int kTile>() {
    using P = typename Product<kTile>::type;
    const int64_t tiles = (p.groups.rows / kTile + p.groups.count) * tiles_of(1, p.N, kTile);
    launch(grouped_product_kernel<P, kTile, A, B>, dim3(grid_width(tiles)), dim3(P::kThreads),
           kProductSharedBytes<P, kTile>, stream, p);
  };
  if constexpr (kWithLarge)
    if (fills(stream, tiles_of(p.groups.rows, p.N, kLargeTile)))
      return start.template operator()<kLargeTile>();
  start.template operator()<kSmallTile>();
}

template <template <int> class Product, bool kWithLarge, class A, class B>
void add_group_sums(CudaStream& stream, const GroupSums<A, B>& p) {
  if (p.groups.rows == 0 || p.M == 0 || p.N == 0) return;
  const auto start = [&]<int kTile>() {
    using P = typename Product<kTile>::type;
    const int64_t tiles = p.groups.count * tiles_of(p.M, p.N, kTile);
    launch(group_sums_kernel<P, kTile, A, B>, dim3(grid_width(tiles)), dim3(P::kThreads),
           kProductSharedBytes<P, kTile>, stream, p);
  };
  if constexpr (kWithLarge)
    if (fills(stream, p.groups.count * tiles_of(p.M, p.N, kLargeTile)))
      return start.template operator()<kLargeTile>();
  start.template operator()<kSmallTile>();
}

}  // namespace
}  // namespace ml::ML_CUDA_NAMESPACE
