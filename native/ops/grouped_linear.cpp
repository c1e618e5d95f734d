#include "ops/grouped_linear.h"

#include "cpu/bias_sums.h"
#include "cpu/index_check.h"
#include "cpu/matrix_product.h"
#include "cpu/widen.h"

namespace ml::cpu {
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

}  // namespace

void grouped_linear(KernelContext& ctx, const GroupedLinear& a) {
  validate_offsets("groupedLinear", a.offsets, a.x.dim(0));
  const int64_t out = a.weights.dim(1), in = a.weights.dim(2);
  const float *x = widened(ctx, a.x).as<float>(), *weights = widened(ctx, a.weights).as<float>(),
              *bias = a.bias.as<float>();
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

void grouped_linear_backward(KernelContext& ctx, const GroupedLinearBackward& a) {
  validate_offsets("groupedLinearBackward", a.offsets, a.x.dim(0));
  const int64_t out = a.weights.dim(1), in = a.weights.dim(2);
  const float* dy = a.dy.as<float>();
  const bool rounded = a.compute == Compute::bfloat16;
  if (float* dx = a.dx.as<float>()) {
    const float* weights = widened(ctx, a.weights).as<float>();
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
  }
  if (float* dweights = a.dweights.as<float>()) {
    const float* x = widened(ctx, a.x).as<float>();
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
  }
  if (float* dbias = a.dbias.as<float>()) add_bias_sums(ctx, dbias, dy, a.offsets, out);
}

}  // namespace ml::cpu
