#include "ops/rms_norm.h"

#ifdef ML_ISA
#include "cpu/rows.h"

namespace ml::cpu::ML_ISA {
namespace {

inline float inverse_rms(const float* x, int64_t n, float eps) {
  return 1.0f / __builtin_sqrtf(dot(x, x, n) / static_cast<float>(n) + eps);
}

void rms_norm_rows(const RmsNorm& a, int64_t begin, int64_t end) {
  const int64_t n = a.x.dim(-1);
  const float* gain = a.gain ? a.gain.as<float>() : nullptr;
  for (int64_t r = begin; r < end; ++r) {
    const float* x = a.x.as<float>() + r * n;
    float* y = a.y.as<float>() + r * n;
    const Vec rs = set1(inverse_rms(x, n, a.eps));
    for_vectors(n, [&](int64_t i, int c) {
      const Vec v = load_n(x + i, c) * rs;
      store_n(y + i, gain ? v * load_n(gain + i, c) : v, c);
    });
  }
}

// sums [n]: dgain of these rows is added to it; or nullptr
void rms_norm_backward_rows(const RmsNormBackward& a, float* sums, int64_t begin, int64_t end) {
  const int64_t n = a.x.dim(-1);
  const float* gain = a.gain ? a.gain.as<float>() : nullptr;
  for (int64_t r = begin; r < end; ++r) {
    const float *x = a.x.as<float>() + r * n, *dy = a.dy.as<float>() + r * n;
    float* dx = a.dx.as<float>() + r * n;
    const Vec rs = set1(inverse_rms(x, n, a.eps));
    Vec sum{};
    for_vectors(n, [&](int64_t i, int c) {
      const Vec g = gain ? load_n(gain + i, c) * load_n(dy + i, c) : load_n(dy + i, c);
      sum = fma(load_n(x + i, c), g, sum);
    });
    const Vec mean = set1(reduce_add(sum) / static_cast<float>(n)) * rs * rs;
    for_vectors(n, [&](int64_t i, int c) {
      const Vec v = load_n(x + i, c), d = load_n(dy + i, c);
      const Vec g = gain ? load_n(gain + i, c) * d : d;
      if (sums) store_n(sums + i, load_n(sums + i, c) + d * v * rs, c);
      store_n(dx + i, rs * (g - v * mean), c);
    });
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include <algorithm>

#include "cpu/column_sums.h"
#include "cpu/tuning.h"

#define ML_ISA_SOURCE "ops/rms_norm.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {

void rms_norm(KernelContext& ctx, const RmsNorm& a) {
  const auto rows = ML_DISPATCH(rms_norm_rows);
  const int64_t n = std::max<int64_t>(1, a.x.dim(-1));
  ctx.parallel_for(a.x.size() / n, std::max<int64_t>(1, kRowGrain / n),
                   [&](int64_t begin, int64_t end, int) { rows(a, begin, end); });
}

void rms_norm_backward(KernelContext& ctx, const RmsNormBackward& a) {
  const auto rows = ML_DISPATCH(rms_norm_backward_rows);
  const int64_t n = std::max<int64_t>(1, a.x.dim(-1)), count = a.x.size() / n;
  const ColumnPartials partials(ctx, count, n, a.dgain ? 1 : 0);
  ctx.parallel_for(count, partials.grain, [&](int64_t begin, int64_t end, int) {
    partials.for_rows(begin, end, [&](float* sums, int64_t from, int64_t to) {
      rows(a, a.dgain ? sums : nullptr, from, to);
    });
  });
  if (a.dgain) partials.add_to(a.dgain.as<float>(), 0);
}

}  // namespace ml::cpu
#endif
