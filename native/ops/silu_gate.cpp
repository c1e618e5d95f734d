#include "ops/silu_gate.h"

#ifdef ML_ISA
#include "cpu/rows.h"

namespace ml::cpu::ML_ISA {
namespace {

void silu_gate_range(const SiluGate& a, int64_t begin, int64_t end) {
  const float *y = a.y.as<float>() + begin, *gate = a.a.as<float>() + begin;
  float* z = a.z.as<float>() + begin;
  for_vectors(end - begin, [&](int64_t i, int n) {
    const Vec g = load_n(gate + i, n);
    store_n(z + i, load_n(y + i, n) * (g * sigmoid(g)), n);
  });
}

void silu_gate_backward_range(const SiluGateBackward& a, int64_t begin, int64_t end) {
  const float *dz = a.dz.as<float>() + begin, *y = a.y.as<float>() + begin,
              *gate = a.a.as<float>() + begin;
  float *dy = a.dy.as<float>() + begin, *da = a.da.as<float>() + begin;
  for_vectors(end - begin, [&](int64_t i, int n) {
    const Vec g = load_n(gate + i, n), s = sigmoid(g), d = load_n(dz + i, n), v = load_n(y + i, n);
    store_n(dy + i, d * (g * s), n);
    store_n(da + i, d * v * s * (1.0f + g * (1.0f - s)), n);
  });
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include "cpu/tuning.h"

#define ML_ISA_SOURCE "ops/silu_gate.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {

void silu_gate(KernelContext& ctx, const SiluGate& a) {
  const auto range = ML_DISPATCH(silu_gate_range);
  ctx.parallel_for(a.y.size(), kActivationGrain,
                   [&](int64_t begin, int64_t end, int) { range(a, begin, end); });
}

void silu_gate_backward(KernelContext& ctx, const SiluGateBackward& a) {
  const auto range = ML_DISPATCH(silu_gate_backward_range);
  ctx.parallel_for(a.y.size(), kActivationGrain,
                   [&](int64_t begin, int64_t end, int) { range(a, begin, end); });
}

}  // namespace ml::cpu
#endif
