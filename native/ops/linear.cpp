#include "ops/linear.h"

#ifdef ML_ISA
#include "cpu/column_sums.h"
#include "cpu/gemm.h"
#include "cpu/rows.h"
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

// sums[j] = sum over `rows` rows of dy[r, j], j in [0, columns), columns <= kBiasColumns
void sum_rows(float* sums, const float* dy, int64_t rows, int64_t stride, int64_t columns) {
  Vec v[kBiasColumns / kWidth] = {};
  if (columns == kBiasColumns) {
    for (int64_t r = 0; r < rows; ++r)
      for (int i = 0; i < kBiasColumns / kWidth; ++i) v[i] += load(dy + r * stride + i * kWidth);
  } else {
    for (int64_t r = 0; r < rows; ++r)
      for_vectors(columns,
                  [&](int64_t j, int n) { v[j / kWidth] += load_n(dy + r * stride + j, n); });
  }
  for (int i = 0; i < kBiasColumns / kWidth; ++i) store(sums + i * kWidth, v[i]);
}

// dbias[j] += sum over r of dy[r, j], j in [j0, j1), j1 <= j0 + kBiasColumns: float32 sums of
// kColumnSumRows rows, added in float64
void sum_columns(const LinearBackward& a, int64_t j0, int64_t j1) {
  const int64_t R = a.dy.dim(0), out = a.dy.dim(1);
  float* dbias = a.dbias.as<float>() + j0;
  float sums[kBiasColumns];
  double totals[kBiasColumns] = {};
  for (int64_t r = 0; r < R; r += kColumnSumRows) {
    const int64_t rows = R - r < kColumnSumRows ? R - r : kColumnSumRows;
    sum_rows(sums, a.dy.as<float>() + r * out + j0, rows, out, j1 - j0);
    for (int64_t j = 0; j < kBiasColumns; ++j) totals[j] += sums[j];
  }
  for (int64_t j = 0; j < j1 - j0; ++j) dbias[j] = static_cast<float>(dbias[j] + totals[j]);
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
    ctx.parallel_for(out, kBiasColumns,
                     [&](int64_t begin, int64_t end, int) { sum_columns(a, begin, end); });
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
