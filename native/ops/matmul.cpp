#include "ops/matmul.h"

#ifdef ML_ISA
#include "cpu/gemm_batch.h"
#include "cpu/rows.h"

namespace ml::cpu::ML_ISA {
namespace {

// C of all products, or of one, over the threads of the context.
void multiply_batch(KernelContext& ctx, const MatrixProducts& m, Compute compute, float* c,
                    const float* a, const float* b) {
  const int64_t products = m.kept.count(), summed = m.summed.count();
  if (m.M == 0 || m.N == 0 || products == 0) return;
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
  if (products == 1 && summed == 1) return multiply(ctx, first);
  const BatchBlocks blocks(m.M, m.N, m.K);
  const int64_t size = blocks.workspace();
  float* workspaces = ctx.scratch<float>(ctx.threads() * size);
  const int64_t terms = blocks.rows * blocks.columns * (m.K < 1 ? 1 : m.K) * summed;
  const int64_t grain = terms < kBatchGrain ? kBatchGrain / terms : 1;
  ctx.parallel_for(products * blocks.count(), grain, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t i = u / blocks.count();
      for (int64_t s = 0; s < summed; ++s) {
        Product p = first;
        p.c += m.kept.offset(0, i);
        p.a.data += m.kept.offset(1, i) + m.summed.offset(0, s);
        p.b.data += m.kept.offset(2, i) + m.summed.offset(1, s);
        p.accumulate = s > 0;
        multiply_alone(blocks.block(p, u % blocks.count()), workspaces + worker * size,
                       blocks.rows <= kFewRows);
      }
    }
  });
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#define ML_ISA_SOURCE "ops/matmul.cpp"
#include "cpu/foreach_isa.h"
#include "cpu/widen.h"

namespace ml::cpu {

void matmul(KernelContext& ctx, const MatMul& a) {
  const View x = widened(ctx, a.x), y = widened(ctx, a.y);
  ML_DISPATCH(multiply_batch)
  (ctx, products_of(a), a.compute, a.out.as<float>(), x.as<float>(), y.as<float>());
}

void matmul_backward(KernelContext& ctx, const MatMulBackward& a) {
  const auto gradient = [&](const View& to, const View& other, bool of_x) {
    if (!to) return;
    const GradientProducts g = gradient_products(a, of_x);
    const float *dout = a.dout.as<float>(), *factor = widened(ctx, other).as<float>();
    ML_DISPATCH(multiply_batch)
    (ctx, g.products, a.compute, to.as<float>(), g.dout_first ? dout : factor,
     g.dout_first ? factor : dout);
  };
  gradient(a.dx, a.y, true);
  gradient(a.dy, a.x, false);
}

}  // namespace ml::cpu
#endif
