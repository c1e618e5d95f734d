#include "ops/matmul.h"

#include "cpu/matrix_product.h"
#include "cpu/widen.h"

namespace ml::cpu {
namespace {

void multiply_matrices(KernelContext& ctx, const MatrixProducts& m, Compute compute, float* c,
                       const float* a, const float* b) {
  const bool rounded = compute == Compute::bfloat16;
  const Product first{.c = c,
                      .ldc = m.N,
                      .a = {a, m.a.row_stride(), m.a.column_stride(), rounded},
                      .b = {b, m.b.row_stride(), m.b.column_stride(), rounded},
                      .M = m.M,
                      .N = m.N,
                      .K = m.K,
                      .bias = nullptr,
                      .accumulate = false};
  multiply_batch(ctx, first, m.kept, m.summed);
}

}  // namespace

void matmul(KernelContext& ctx, const MatMul& a) {
  const View x = widened(ctx, a.x), y = widened(ctx, a.y);
  multiply_matrices(ctx, products_of(a), a.compute, a.out.as<float>(), x.as<float>(),
                    y.as<float>());
}

void matmul_backward(KernelContext& ctx, const MatMulBackward& a) {
  const auto gradient = [&](const View& to, const View& other, bool of_x) {
    if (!to) return;
    const GradientProducts g = gradient_products(a, of_x);
    const float *dout = a.dout.as<float>(), *factor = widened(ctx, other).as<float>();
    multiply_matrices(ctx, g.products, a.compute, to.as<float>(), g.dout_first ? dout : factor,
                      g.dout_first ? factor : dout);
  };
  gradient(a.dx, a.y, true);
  gradient(a.dy, a.x, false);
}

}  // namespace ml::cpu
