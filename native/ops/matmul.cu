// Products of matrices and their gradients (ops/matmul.h), over tiles. The tensor cores take 16-bit
// operands that are contiguous along the inner dimension: others are transposed first, in scratch
// memory. Gradients are products with float32, for which a 16-bit operand is widened.

#include "ops/matmul.h"

#include <algorithm>

#include "cuda/matrix_product.cuh"
#include "ops/copy.h"

namespace ml::ML_CUDA_NAMESPACE {

void copy(CudaStream& stream, const Copy& a);  // ops/copy.cu

namespace {

template <bool kAKMajor, bool kBKMajor>
struct Float32 {
  template <int kTile>
  struct Product {
    using type = FmaProduct<float, float, kAKMajor, kBKMajor, kTile, kTile>;
  };
};

template <class T>
struct BothKMajor {
  template <int kTile>
  struct Product : KMajorProduct<T, kTile, kTile> {};
};

// The innermost axis of the batch is the grid's; what is summed over is added in order.
template <template <int> class Product, class T>
void multiply_batch(CudaStream& stream, const MatrixProducts& m, float* c, const T* a, const T* b) {
  const int last = m.kept.rank - 1;
  const int64_t all = m.kept.count(), axis = last < 0 ? 1 : m.kept.size[last];
  const auto step = [&](int tensor) { return last < 0 ? 0 : m.kept.stride[tensor][last]; };
  if (m.M == 0 || m.N == 0) return;
  for (int64_t i = 0, batches; i < all; i += batches) {
    batches = std::min(axis - i % axis, kMaxBatches);
    for (int64_t s = 0; s < m.summed.count(); ++s)
      multiply<Product, true, T, T>(
          stream, {.c = c + m.kept.offset(0, i),
                   .ldc = m.N,
                   .a = Operand<T>::of(a + m.kept.offset(1, i) + m.summed.offset(0, s), m.a.stride),
                   .b = Operand<T>::of(b + m.kept.offset(2, i) + m.summed.offset(1, s), m.b.stride),
                   .M = m.M,
                   .N = m.N,
                   .K = m.K,
                   .bias = nullptr,
                   .accumulate = s > 0,
                   .batches = batches,
                   .a_batch = step(1),
                   .b_batch = step(2),
                   .c_batch = step(0)});
  }
}

void multiply_float32(CudaStream& stream, const MatrixProducts& m, float* c, const float* a,
                      const float* b) {
  // A is contiguous along the inner dimension where its rows are, B where its columns are.
  if (m.a.rows && m.b.rows)
    multiply_batch<Float32<true, false>::Product>(stream, m, c, a, b);
  else if (m.a.rows)
    multiply_batch<Float32<true, true>::Product>(stream, m, c, a, b);
  else if (m.b.rows)
    multiply_batch<Float32<false, false>::Product>(stream, m, c, a, b);
  else
    multiply_batch<Float32<false, true>::Product>(stream, m, c, a, b);
}

constexpr int kTransposeTile = 32, kTransposeRows = 8;

template <class T>
struct TransposeTile {
  static_assert(sizeof(T) == 2);
  // a pitch of an odd number of words, so that the rows of a column are in different banks
  T v[kTransposeTile][kTransposeTile + 2];
};

// One block transposes a tile of one matrix: to [matrices, columns, rows], from [matrices, rows,
// columns]; a thread has every eighth row of the tile.
template <class T>
__global__ void __launch_bounds__(kTransposeTile* kTransposeRows)
    transpose_kernel(Guard guard, T* to, const T* from, int64_t rows, int64_t columns) {
  if (guard.aborted()) return;
  TransposeTile<T>& tile = shared<TransposeTile<T>>();
  const int64_t tiles_down = (rows + kTransposeTile - 1) / kTransposeTile,
                tiles_across = (columns + kTransposeTile - 1) / kTransposeTile;
  const int64_t t = blockIdx.x % (tiles_down * tiles_across),
                matrix = blockIdx.x / (tiles_down * tiles_across) * (rows * columns);
  const int64_t row0 = t / tiles_across * kTransposeTile,
                column0 = t % tiles_across * kTransposeTile;
  const int x = lane(), y = warp_of_block();
#pragma unroll
  for (int r = y; r < kTransposeTile; r += kTransposeRows)
    if (row0 + r < rows && column0 + x < columns)
      tile.v[r][x] = from[matrix + (row0 + r) * columns + column0 + x];
  block_sync();
#pragma unroll
  for (int r = y; r < kTransposeTile; r += kTransposeRows)
    if (column0 + r < columns && row0 + x < rows)
      to[matrix + (column0 + r) * rows + row0 + x] = tile.v[x][r];
}

// The transposes of all matrices of v.
template <class T>
const T* transposed(CudaStream& stream, const View& v) {
  const int64_t rows = v.dim(-2), columns = v.dim(-1), size = v.size();
  T* to = stream.scratch<T>(size);
  if (size == 0) return to;
  const int64_t tiles = (rows + kTransposeTile - 1) / kTransposeTile *
                        ((columns + kTransposeTile - 1) / kTransposeTile);
  launch(transpose_kernel<T>, dim3(grid_width(size / (rows * columns) * tiles)),
         dim3(kTransposeTile * kTransposeRows), sizeof(TransposeTile<T>), stream, to, v.as<T>(),
         rows, columns);
  return to;
}

template <class T>
void multiply_16_bit(CudaStream& stream, const MatMul& a) {
  MatMul k_major = a;
  const T *x = a.x.as<T>(), *y = a.y.as<T>();
  const auto swap_axes = [](View& v) {
    std::swap(v.shape.dims[v.shape.rank - 1], v.shape.dims[v.shape.rank - 2]);
  };
  if (a.transpose_x) {
    x = transposed<T>(stream, a.x);
    swap_axes(k_major.x);
    k_major.transpose_x = false;
  }
  if (!a.transpose_y) {
    y = transposed<T>(stream, a.y);
    swap_axes(k_major.y);
    k_major.transpose_y = true;
  }
  multiply_batch<BothKMajor<T>::template Product>(stream, products_of(k_major), a.out.as<float>(),
                                                  x, y);
}

// The view itself, or a float32 copy in scratch memory.
View widened(CudaStream& stream, const View& v) {
  if (v.dtype == DType::f32) return v;
  View copied = v;
  copied.dtype = DType::f32;
  copied.data = stream.scratch<float>(v.size());
  copy(stream, {.out = copied, .in = v});
  return copied;
}

}  // namespace

void matmul(CudaStream& stream, const MatMul& a) {
  if (a.x.dtype == DType::f32)
    return multiply_float32(stream, products_of(a), a.out.as<float>(), a.x.as<float>(),
                            a.y.as<float>());
  dispatch_float(a.x.dtype, [&](auto t) {
    if constexpr (sizeof(t) == 2) multiply_16_bit<decltype(t)>(stream, a);
  });
}

void matmul_backward(CudaStream& stream, const MatMulBackward& a) {
  const auto gradient = [&](const View& to, const View& other, bool of_x) {
    if (!to) return;
    const GradientProducts g = gradient_products(a, of_x);
    const float *dout = a.dout.as<float>(), *factor = widened(stream, other).as<float>();
    multiply_float32(stream, g.products, to.as<float>(), g.dout_first ? dout : factor,
                     g.dout_first ? factor : dout);
  };
  gradient(a.dx, a.y, true);
  gradient(a.dy, a.x, false);
}

}  // namespace ml::ML_CUDA_NAMESPACE
