#include "ops/linear.h"

#ifdef ML_ISA
#include "cpu/gemm.h"

namespace ml::cpu::ML_ISA {
namespace {

void linear_product(Context& ctx, const Linear& a) {
  const int64_t R = a.x.dim(0), in = a.x.dim(1), out = a.weight.dim(0);
  multiply(ctx, {a.y.as<float>(), out, {a.x.as<float>(), in, 1}, {a.weight.as<float>(), 1, in}, R, out, in,
                 a.bias ? a.bias.as<float>() : nullptr, false});
}

void linear_backward_products(Context& ctx, const LinearBackward& a) {
  const int64_t R = a.x.dim(0), in = a.x.dim(1), out = a.weight.dim(0);
  const float *dy = a.dy.as<float>(), *x = a.x.as<float>(), *weight = a.weight.as<float>();
  if (a.dx) multiply(ctx, {a.dx.as<float>(), in, {dy, out, 1}, {weight, in, 1}, R, in, out, nullptr, a.accumulate_dx});
  if (a.dweight) multiply(ctx, {a.dweight.as<float>(), in, {dy, 1, out}, {x, in, 1}, out, in, R, nullptr, true});
}

// dbias[j] += sum over rows, columns j0 … j1
void sum_columns(const LinearBackward& a, int64_t j0, int64_t j1) {
  const int64_t R = a.dy.dim(0), out = a.dy.dim(1);
  float* dbias = a.dbias.as<float>();
  int64_t j = j0;
  for (; j + kWidth <= j1; j += kWidth) {
    Vec sum{};
    for (int64_t r = 0; r < R; ++r) sum += load(a.dy.as<float>() + r * out + j);
    store(dbias + j, load(dbias + j) + sum);
  }
  for (; j < j1; ++j) {
    float sum = 0;
    for (int64_t r = 0; r < R; ++r) sum += a.dy.as<float>()[r * out + j];
    dbias[j] += sum;
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#define ML_ISA_SOURCE "ops/linear.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {

constexpr int64_t kColumns = 64;  // of dbias for one piece: whole vectors for every instruction set

void linear(Context& ctx, const Linear& a) { ML_DISPATCH(linear_product)(ctx, a); }

void linear_backward(Context& ctx, const LinearBackward& a) {
  ML_DISPATCH(linear_backward_products)(ctx, a);
  if (!a.dbias) return;
  const auto sum = ML_DISPATCH(sum_columns);
  ctx.parallel_for(a.dy.dim(1), kColumns, [&](int64_t begin, int64_t end, int) { sum(a, begin, end); });
}

}  // namespace ml::cpu
#endif
