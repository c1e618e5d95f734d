#include "ops/linear.h"

#include "cpu/bias_sums.h"
#include "cpu/matrix_product.h"
#include "cpu/widen.h"

namespace ml::cpu {

void linear(KernelContext& ctx, const Linear& a) {
  const int64_t R = a.x.dim(0), in = a.x.dim(1), out = a.weight.dim(0);
  const float *x = widened(ctx, a.x).as<float>(), *weight = widened(ctx, a.weight).as<float>();
  const bool rounded = a.compute == Compute::bfloat16;
  multiply(ctx, Product{.c = a.y.as<float>(),
                        .ldc = out,
                        .a = {x, in, 1, rounded},
                        .b = {weight, 1, in, rounded},
                        .M = R,
                        .N = out,
                        .K = in,
                        .bias = a.bias ? a.bias.as<float>() : nullptr,
                        .accumulate = false});
}

void linear_backward(KernelContext& ctx, const LinearBackward& a) {
  const int64_t R = a.x.dim(0), in = a.x.dim(1), out = a.weight.dim(0);
  const float* dy = a.dy.as<float>();
  const bool rounded = a.compute == Compute::bfloat16;
  if (a.dx)
    multiply(ctx, Product{.c = a.dx.as<float>(),
                          .ldc = in,
                          .a = {dy, out, 1, rounded},
                          .b = {widened(ctx, a.weight).as<float>(), in, 1, rounded},
                          .M = R,
                          .N = in,
                          .K = out,
                          .bias = nullptr,
                          .accumulate = a.accumulate_dx});
  if (a.dweight)
    multiply(ctx, Product{.c = a.dweight.as<float>(),
                          .ldc = in,
                          .a = {dy, 1, out, rounded},
                          .b = {widened(ctx, a.x).as<float>(), in, 1, rounded},
                          .M = out,
                          .N = in,
                          .K = R,
                          .bias = nullptr,
                          .accumulate = true});
  if (a.dbias) add_bias_sums(ctx, a.dbias.as<float>(), dy, R, out);
}

}  // namespace ml::cpu
