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
    a.dg.as<float>()[r] = dot(dout, y, V) * s[0] * (1.0f - s[0]);
    for_vectors(V, [&](int64_t i, int n) { store_n(dy + i, load_n(dout + i, n) * s, n); });
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include <algorithm>

#define ML_ISA_SOURCE "ops/silu_gate.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {

constexpr int64_t kPiece = 1 << 13;  // elements

void silu_gate(Context& ctx, const SiluGate& a) {
  const auto range = ML_DISPATCH(silu_gate_range);
  ctx.parallel_for(a.y.size(), kPiece,
                   [&](int64_t begin, int64_t end, int) { range(a, begin, end); });
}

void silu_gate_backward(Context& ctx, const SiluGateBackward& a) {
  const auto range = ML_DISPATCH(silu_gate_backward_range);
  ctx.parallel_for(a.y.size(), kPiece,
                   [&](int64_t begin, int64_t end, int) { range(a, begin, end); });
}

void sigmoid_gate(Context& ctx, const SigmoidGate& a) {
  const auto rows = ML_DISPATCH(sigmoid_gate_rows);
  const int64_t grain = std::max<int64_t>(1, kPiece / std::max<int64_t>(1, a.y.dim(1)));
  ctx.parallel_for(a.y.dim(0), grain,
                   [&](int64_t begin, int64_t end, int) { rows(a, begin, end); });
}

void sigmoid_gate_backward(Context& ctx, const SigmoidGateBackward& a) {
  const auto rows = ML_DISPATCH(sigmoid_gate_backward_rows);
  const int64_t grain = std::max<int64_t>(1, kPiece / std::max<int64_t>(1, a.y.dim(1)));
  ctx.parallel_for(a.y.dim(0), grain,
                   [&](int64_t begin, int64_t end, int) { rows(a, begin, end); });
}

}  // namespace ml::cpu
#endif
