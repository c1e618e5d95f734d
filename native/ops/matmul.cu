// Products of matrices and their gradients (ops/matmul.h), over tiles: of 16-bit operands by tensor
// cores. Gradients are products with float32, for which a 16-bit operand is widened, but where
// `compute` has all of them rounded to bfloat16.

#include "ops/matmul.h"

#include <algorithm>

#include "cuda/matrix_product.cuh"
#include "cuda/tuning.h"
#include "ops/compute_operand.cuh"

namespace ml::ML_CUDA_NAMESPACE {

namespace {

// The innermost axis of the batch is the grid's; what is summed over is added in order.
template <bool kAKMajor, bool kBKMajor, class T>
void multiply_batch(CudaStream& stream, const MatrixProducts& m, float* c, const T* a, const T* b) {
  const int last = m.kept.rank - 1;
  const int64_t all = m.kept.count(), axis = last < 0 ? 1 : m.kept.size[last];
  const auto step = [&](int tensor) { return last < 0 ? 0 : m.kept.stride[tensor][last]; };
  if (m.M == 0 || m.N == 0) return;
  for (int64_t i = 0, batches; i < all; i += batches) {
    batches = std::min(axis - i % axis, kMaxBatches);
    for (int64_t s = 0; s < m.summed.count(); ++s)
      multiply<kAKMajor, kBKMajor, T, T>(
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
  const auto run = [&]<bool kAKMajor, bool kBKMajor>() {
    multiply_batch<kAKMajor, kBKMajor>(stream, m, c.as<float>(), a.as<T>(), b.as<T>());
  };
  // A is contiguous along the inner dimension where its rows are, B where its columns are.
  if (m.a.rows)
    m.b.rows ? run.template operator()<true, false>() : run.template operator()<true, true>();
  else
    m.b.rows ? run.template operator()<false, false>() : run.template operator()<false, true>();
}

}  // namespace

void matmul(CudaStream& stream, const MatMul& args) {
  MatMul a = args;
  compute_operands(stream, a.compute, {&a.x, &a.y});
  dispatch_operand(a.compute, a.x.dtype, [&](auto t) {
    multiply_matrices<decltype(t)>(stream, products_of(a), a.out, a.x, a.y);
  });
}

void matmul_backward(CudaStream& stream, const MatMulBackward& a) {
  // Gradients in float32 take a 16-bit operand as float32.
  const DType dtype = a.compute == Compute::bfloat16 ? DType::bf16 : DType::f32;
  const auto operand = [&](View v) {
    compute_operands(stream, a.compute, {&v});
    return operand_as(stream, v, dtype);
  };
  const View dout = a.dx || a.dy ? operand(a.dout) : a.dout;
  const auto gradient = [&](const View& to, const View& other, bool of_x) {
    if (!to) return;
    const GradientProducts g = gradient_products(a, of_x);
    const View factor = operand(other), &first = g.dout_first ? dout : factor,
               &second = g.dout_first ? factor : dout;
    dispatch_operand(a.compute, dtype, [&](auto t) {
      multiply_matrices<decltype(t)>(stream, g.products, to, first, second);
    });
  };
  gradient(a.dx, a.y, true);
  gradient(a.dy, a.x, false);
}

}  // namespace ml::ML_CUDA_NAMESPACE
