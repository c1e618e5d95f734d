// Products of matrices and their gradients (ops/matmul.h), over tiles: of 16-bit operands by tensor
// cores. Gradients are products with float32, for which a 16-bit operand is widened, but where
// `compute` has all of them rounded to bfloat16.

#include "ops/matmul.h"

#include <algorithm>

#include "cuda/matrix_product.cuh"
#include "ops/bfloat16_operand.cuh"
#include "ops/copy.h"

namespace ml::ML_CUDA_NAMESPACE {

void copy(CudaStream& stream, const Copy& a);  // ops/copy.cu

namespace {

template <class T, bool kAKMajor, bool kBKMajor>
struct Layout {
  template <int kTile>
  struct Product : TileProduct<T, kAKMajor, kBKMajor, kTile, kTile> {};
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

template <class T>
void multiply_matrices(CudaStream& stream, const MatrixProducts& m, const View& c, const View& a,
                       const View& b) {
  const auto run = [&]<class Layout>(Layout) {
    multiply_batch<Layout::template Product>(stream, m, c.as<float>(), a.as<T>(), b.as<T>());
  };
  // A is contiguous along the inner dimension where its rows are, B where its columns are.
  if (m.a.rows)
    m.b.rows ? run(Layout<T, true, false>{}) : run(Layout<T, true, true>{});
  else
    m.b.rows ? run(Layout<T, false, false>{}) : run(Layout<T, false, true>{});
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

void matmul(CudaStream& stream, const MatMul& args) {
  MatMul a = args;
  if (a.compute == Compute::bfloat16) {
    round_operands(stream, {&a.x, &a.y});
  }
  dispatch_float(a.x.dtype, [&](auto t) {
    multiply_matrices<decltype(t)>(stream, products_of(a), a.out, a.x, a.y);
  });
}

void matmul_backward(CudaStream& stream, const MatMulBackward& a) {
  const bool rounds = a.compute == Compute::bfloat16;
  const View dout = rounds && (a.dx || a.dy) ? bfloat16_operand(stream, a.dout) : a.dout;
  const auto gradient = [&](const View& to, const View& other, bool of_x) {
    if (!to) return;
    const GradientProducts g = gradient_products(a, of_x);
    const View factor = rounds ? bfloat16_operand(stream, other) : widened(stream, other),
               &first = g.dout_first ? dout : factor, &second = g.dout_first ? factor : dout;
    rounds ? multiply_matrices<BFloat16>(stream, g.products, to, first, second)
           : multiply_matrices<float>(stream, g.products, to, first, second);
  };
  gradient(a.dx, a.y, true);
  gradient(a.dy, a.x, false);
}

}  // namespace ml::ML_CUDA_NAMESPACE
