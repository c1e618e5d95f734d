#include "ops/layer_norm.h"

#ifdef ML_ISA
#include "cpu/rows.h"

namespace ml::cpu::ML_ISA {
namespace {

struct Moments {
  Vec mean, inverse_deviation;
};

// The mean first, so that a large one leaves no rounding error in the variance.
inline Moments moments(const float* x, int64_t n, float eps) {
  Vec sum{};
  for_vectors(n, [&](int64_t i, int c) { sum += load_n(x + i, c); });
  const Vec mean = set1(reduce_add(sum) / static_cast<float>(n));
  Vec squares{};
  float rest = 0;
  for_vectors(n, [&](int64_t i, int c) {
    const Vec v = load_n(x + i, c) - mean;
    if (c == kWidth) {
      squares = fma(v, v, squares);
    } else {
      for (int l = 0; l < c; ++l) rest += v[l] * v[l];
    }
  });
  const float variance = (reduce_add(squares) + rest) / static_cast<float>(n);
  return {mean, set1(1.0f / __builtin_sqrtf(variance + eps))};
}

void layer_norm_rows(const LayerNorm& a, int64_t begin, int64_t end) {
  const int64_t n = a.x.dim(-1);
  const float *weight = a.weight ? a.weight.as<float>() : nullptr,
              *bias = a.bias ? a.bias.as<float>() : nullptr;
  for (int64_t r = begin; r < end; ++r) {
    const float* x = a.x.as<float>() + r * n;
    float* y = a.y.as<float>() + r * n;
    const Moments m = moments(x, n, a.eps);
    for_vectors(n, [&](int64_t i, int c) {
      Vec v = (load_n(x + i, c) - m.mean) * m.inverse_deviation;
      if (weight) v = v * load_n(weight + i, c);
      if (bias) v = v + load_n(bias + i, c);
      store_n(y + i, v, c);
    });
  }
}

// dweight, dbias [n]: those of these rows are added to them; either may be nullptr
void layer_norm_backward_rows(const LayerNormBackward& a, float* dweight, float* dbias,
                              int64_t begin, int64_t end) {
  const int64_t n = a.x.dim(-1);
  const float* weight = a.weight ? a.weight.as<float>() : nullptr;
  for (int64_t r = begin; r < end; ++r) {
    const float *x = a.x.as<float>() + r * n, *dy = a.dy.as<float>() + r * n;
    const Moments m = moments(x, n, a.eps);
    Vec sum{}, product{};
    for_vectors(n, [&](int64_t i, int c) {
      const Vec d = load_n(dy + i, c), xn = (load_n(x + i, c) - m.mean) * m.inverse_deviation,
                g = weight ? load_n(weight + i, c) * d : d;
      if (dweight) store_n(dweight + i, load_n(dweight + i, c) + d * xn, c);
      if (dbias) store_n(dbias + i, load_n(dbias + i, c) + d, c);
      sum += g;
      product = fma(g, xn, product);  // g is 0 past the row
    });
    if (!a.dx) continue;
    float* dx = a.dx.as<float>() + r * n;
    const Vec mean_g = set1(reduce_add(sum) / static_cast<float>(n)),
              mean_gx = set1(reduce_add(product) / static_cast<float>(n));
    for_vectors(n, [&](int64_t i, int c) {
      const Vec d = load_n(dy + i, c), xn = (load_n(x + i, c) - m.mean) * m.inverse_deviation,
                g = weight ? load_n(weight + i, c) * d : d;
      store_n(dx + i, (g - mean_g - xn * mean_gx) * m.inverse_deviation, c);
    });
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include <algorithm>

#include "cpu/column_sums.h"
#include "cpu/tuning.h"

#define ML_ISA_SOURCE "ops/layer_norm.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {

void layer_norm(KernelContext& ctx, const LayerNorm& a) {
  const auto rows = ML_DISPATCH(layer_norm_rows);
  const int64_t n = std::max<int64_t>(1, a.x.dim(-1));
  ctx.parallel_for(a.x.size() / n, std::max<int64_t>(1, kRowGrain / n),
                   [&](int64_t begin, int64_t end, int) { rows(a, begin, end); });
}

void layer_norm_backward(KernelContext& ctx, const LayerNormBackward& a) {
  const auto rows = ML_DISPATCH(layer_norm_backward_rows);
  const int64_t n = std::max<int64_t>(1, a.x.dim(-1)), count = a.x.size() / n;
  const ColumnPartials partials(ctx, count, n, (a.dweight ? 1 : 0) + (a.dbias ? 1 : 0));
  ctx.parallel_for(count, partials.grain, [&](int64_t begin, int64_t end, int) {
    partials.for_rows(begin, end, [&](float* sums, int64_t from, int64_t to) {
      rows(a, a.dweight ? sums : nullptr, a.dbias ? sums + (a.dweight ? n : 0) : nullptr, from, to);
    });
  });
  if (a.dweight) partials.add_to(a.dweight.as<float>(), 0);
  if (a.dbias) partials.add_to(a.dbias.as<float>(), a.dweight ? 1 : 0);
}

}  // namespace ml::cpu
#endif
