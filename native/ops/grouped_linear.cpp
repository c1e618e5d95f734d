#include "ops/grouped_linear.h"

#ifdef ML_ISA
#include "cpu/bias_sums.h"
#include "cpu/gemm_batch.h"

namespace ml::cpu::ML_ISA {
namespace {

// The products of all groups: of each in turn, product(group, first row, rows).
template <class F>
void multiply_groups(KernelContext& ctx, const View& offsets, F product) {
  const int64_t groups = offsets.size() - 1;
  const int32_t* begins = offsets.as<int32_t>();
  Product* products = ctx.scratch<Product>(groups);
  for (int64_t g = 0; g < groups; ++g)
    products[g] = product(g, int64_t{begins[g]}, int64_t{begins[g + 1]} - begins[g]);
  multiply_all(ctx, products, groups);
}

void grouped_product(KernelContext& ctx, const GroupedLinear& a) {
  const int64_t out = a.weights.dim(1), in = a.weights.dim(2);
  const float *x = a.x.as<float>(), *weights = a.weights.as<float>(), *bias = a.bias.as<float>();
  float* y = a.y.as<float>();
  const bool rounded = a.compute == Compute::bfloat16;
  multiply_groups(ctx, a.offsets, [&](int64_t g, int64_t begin, int64_t rows) {
    return Product{.c = y + begin * out,
                   .ldc = out,
                   .a = {x + begin * in, in, 1, rounded},
                   .b = {weights + g * out * in, 1, in, rounded},
                   .M = rows,
                   .N = out,
                   .K = in,
                   .bias = bias ? bias + g * out : nullptr,
                   .accumulate = false};
  });
}

void grouped_gradients(KernelContext& ctx, const GroupedLinearBackward& a) {
  const int64_t out = a.weights.dim(1), in = a.weights.dim(2), groups = a.weights.dim(0);
  const float *dy = a.dy.as<float>(), *x = a.x.as<float>(), *weights = a.weights.as<float>();
  const bool rounded = a.compute == Compute::bfloat16;
  if (float* dx = a.dx.as<float>())
    multiply_groups(ctx, a.offsets, [&](int64_t g, int64_t begin, int64_t rows) {
      return Product{.c = dx + begin * in,
                     .ldc = in,
                     .a = {dy + begin * out, out, 1, rounded},
                     .b = {weights + g * out * in, in, 1, rounded},
                     .M = rows,
                     .N = in,
                     .K = out,
                     .bias = nullptr,
                     .accumulate = false};
    });
  if (float* dweights = a.dweights.as<float>())
    multiply_groups(ctx, a.offsets, [&](int64_t g, int64_t begin, int64_t rows) {
      return Product{.c = dweights + g * out * in,
                     .ldc = in,
                     .a = {dy + begin * out, 1, out, rounded},
                     .b = {x + begin * in, in, 1, rounded},
                     .M = rows > 0 ? out : 0,  // of a group without rows nothing is added
                     .N = in,
                     .K = rows,
                     .bias = nullptr,
                     .accumulate = true};
    });
  if (float* dbias = a.dbias.as<float>()) {
    const int32_t* begins = a.offsets.as<int32_t>();
    const int64_t blocks = divide_up(out, kBiasColumns);
    ctx.parallel_for(groups * blocks, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t u = begin; u < end; ++u) {
        const int64_t g = u / blocks, j = u % blocks * kBiasColumns;
        add_columns(dbias + g * out + j, dy + begins[g] * out + j, begins[g + 1] - begins[g], out,
                    out - j < kBiasColumns ? out - j : kBiasColumns);
      }
    });
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#define ML_ISA_SOURCE "ops/grouped_linear.cpp"
#include "cpu/foreach_isa.h"
#include "cpu/index_check.h"
#include "cpu/widen.h"

namespace ml::cpu {

void grouped_linear(KernelContext& ctx, const GroupedLinear& args) {
  validate_offsets("groupedLinear", args.offsets, args.x.dim(0));
  GroupedLinear a = args;
  a.x = widened(ctx, args.x);
  a.weights = widened(ctx, args.weights);
  ML_DISPATCH(grouped_product)(ctx, a);
}

void grouped_linear_backward(KernelContext& ctx, const GroupedLinearBackward& args) {
  validate_offsets("groupedLinearBackward", args.offsets, args.x.dim(0));
  GroupedLinearBackward a = args;
  if (a.dweights) a.x = widened(ctx, args.x);
  if (a.dx) a.weights = widened(ctx, args.weights);
  ML_DISPATCH(grouped_gradients)(ctx, a);
}

}  // namespace ml::cpu
#endif
