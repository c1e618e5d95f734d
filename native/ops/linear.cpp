#include "ops/linear.h"

#ifdef ML_ISA
#include "cpu/bias_sums.h"
#include "cpu/gemm.h"
#include "cpu/tuning.h"

namespace ml::cpu::ML_ISA {
namespace {

void linear_product(KernelContext& ctx, const Linear& a) {
  const int64_t R = a.x.dim(0), in = a.x.dim(1), out = a.weight.dim(0);
  const bool rounded = a.compute == Compute::bfloat16;
  multiply(ctx, Product{.c = a.y.as<float>(),
                        .ldc = out,
                        .a = {a.x.as<float>(), in, 1, rounded},
                        .b = {a.weight.as<float>(), 1, in, rounded},
                        .M = R,
                        .N = out,
                        .K = in,
                        .bias = a.bias ? a.bias.as<float>() : nullptr,
                        .accumulate = false});
}

void linear_backward_all(KernelContext& ctx, const LinearBackward& a) {
  const int64_t R = a.x.dim(0), in = a.x.dim(1), out = a.weight.dim(0);
  const float *dy = a.dy.as<float>(), *x = a.x.as<float>(), *weight = a.weight.as<float>();
  const bool rounded = a.compute == Compute::bfloat16;
  if (a.dx)
    multiply(ctx, Product{.c = a.dx.as<float>(),
                          .ldc = in,
                          .a = {dy, out, 1, rounded},
                          .b = {weight, in, 1, rounded},
                          .M = R,
                          .N = in,
                          .K = out,
                          .bias = nullptr,
                          .accumulate = a.accumulate_dx});
  if (a.dweight)
    multiply(ctx, Product{.c = a.dweight.as<float>(),
                          .ldc = in,
                          .a = {dy, 1, out, rounded},
                          .b = {x, in, 1, rounded},
                          .M = out,
                          .N = in,
                          .K = R,
                          .bias = nullptr,
                          .accumulate = true});
  if (a.dbias)
    ctx.parallel_for(out, kBiasColumns, [&](int64_t begin, int64_t end, int) {
      add_columns(a.dbias.as<float>() + begin, dy + begin, R, out, end - begin);
    });
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#define ML_ISA_SOURCE "ops/linear.cpp"
#include "cpu/foreach_isa.h"
#include "cpu/widen.h"

namespace ml::cpu {

void linear(KernelContext& ctx, const Linear& args) {
  Linear a = args;
  a.x = widened(ctx, args.x);
  a.weight = widened(ctx, args.weight);
  ML_DISPATCH(linear_product)(ctx, a);
}

void linear_backward(KernelContext& ctx, const LinearBackward& args) {
  LinearBackward a = args;
  if (a.dweight) a.x = widened(ctx, args.x);
  if (a.dx) a.weight = widened(ctx, args.weight);
  ML_DISPATCH(linear_backward_all)(ctx, a);
}

}  // namespace ml::cpu
#endif
