#include "ops/sigmoid_gate.h"

#ifdef ML_ISA
#include "cpu/rows.h"

namespace ml::cpu::ML_ISA {
namespace {

void sigmoid_gate_rows(const SigmoidGate& a, int64_t begin, int64_t end) {
  const int64_t V = a.y.dim(1);
  for (int64_t r = begin; r < end; ++r) {
    const Vec s = sigmoid(set1(a.g.as<float>()[r]));
    const float* y = a.y.as<float>() + r * V;
    float* out = a.out.as<float>() + r * V;
    for_vectors(V, [&](int64_t i, int n) { store_n(out + i, load_n(y + i, n) * s, n); });
  }
}

void sigmoid_gate_backward_rows(const SigmoidGateBackward& a, int64_t begin, int64_t end) {
  const int64_t V = a.y.dim(1);
  for (int64_t r = begin; r < end; ++r) {
    const Vec s = sigmoid(set1(a.g.as<float>()[r]));
    const float *y = a.y.as<float>() + r * V, *dout = a.dout.as<float>() + r * V;
    float* dy = a.dy.as<float>() + r * V;
    const float product = dot(dout, y, V);
    for_vectors(V, [&](int64_t i, int n) { store_n(dy + i, load_n(dout + i, n) * s, n); });
    // dg may be dout or y where V is 1
    a.dg.as<float>()[r] = product * s[0] * (1.0f - s[0]);
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include <algorithm>

#include "cpu/tuning.h"

#define ML_ISA_SOURCE "ops/sigmoid_gate.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {
namespace {

int64_t rows_per_task(const View& y) {
  return std::max<int64_t>(1, kRowGrain / std::max<int64_t>(1, y.dim(1)));
}

}  // namespace

void sigmoid_gate(KernelContext& ctx, const SigmoidGate& a) {
  const auto rows = ML_DISPATCH(sigmoid_gate_rows);
  ctx.parallel_for(a.y.dim(0), rows_per_task(a.y),
                   [&](int64_t begin, int64_t end, int) { rows(a, begin, end); });
}

void sigmoid_gate_backward(KernelContext& ctx, const SigmoidGateBackward& a) {
  const auto rows = ML_DISPATCH(sigmoid_gate_backward_rows);
  ctx.parallel_for(a.y.dim(0), rows_per_task(a.y),
                   [&](int64_t begin, int64_t end, int) { rows(a, begin, end); });
}

}  // namespace ml::cpu
#endif
