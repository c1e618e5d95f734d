// Attention of a few queries, as in generation with a cache of keys: keys and values are read where
// they stand, once a query. Included inside an instruction-set pass.

#if defined(ML_OPS_ATTENTION_FEW_CPU_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_OPS_ATTENTION_FEW_CPU_H
#undef ML_OPS_ATTENTION_FEW_CPU_H
#else
#define ML_OPS_ATTENTION_FEW_CPU_H
#endif

#include "ops/attention_cpu.h"

namespace ml::cpu::ML_ISA {
namespace {

// Sums of parts of a and b: each of `part` lanes becomes half as many, those of a first.
template <int part, int... lane>
[[gnu::always_inline, maybe_unused]] inline Vec add_halves(Vec a, Vec b,
                                                           std::integer_sequence<int, lane...>) {
  constexpr int half = part / 2;
  // Lane i of the result is in part i / half of both.
  return __builtin_shufflevector(a, b, (lane / half * part + lane % half)...) +
         __builtin_shufflevector(a, b, (lane / half * part + lane % half + half)...);
}

// Lane i: the sum of the lanes of v[i].
template <int count = kWidth>
[[gnu::always_inline, maybe_unused]] inline Vec lane_sums(const Vec* v) {
  if constexpr (count == 1)
    return v[0];
  else
    return add_halves<2 * kWidth / count>(lane_sums<count / 2>(v),
                                          lane_sums<count / 2>(v + count / 2),
                                          std::make_integer_sequence<int, kWidth>{});
}

// s[0 … n) = scale * <q, k[u]>
[[maybe_unused]] inline void score_keys(float* s, const float* q, const float* k, int64_t stride,
                                        int64_t n, int64_t d, float scale) {
  for (int64_t u = 0; u < n; u += kWidth, k += kWidth * stride) {
    Vec sums[kWidth] = {};
    const int64_t count = min64(n - u, kWidth);
    if (count == kWidth)
      for_vectors(d, [&](int64_t i, int c) __attribute__((always_inline)) {
        const Vec x = load_n(q + i, c);
        for (int j = 0; j < kWidth; ++j) sums[j] = fma(x, load_n(k + j * stride + i, c), sums[j]);
      });
    else
      for_vectors(d, [&](int64_t i, int c) {
        const Vec x = load_n(q + i, c);
        for (int64_t j = 0; j < count; ++j)
          sums[j] = fma(x, load_n(k + j * stride + i, c), sums[j]);
      });
    store(s + u, lane_sums(sums) * scale);
  }
}

// y [count] = factor * sum over u of p[u] v[u]: kVectors vectors, or a part of one.
template <int kVectors>
[[maybe_unused]] inline void add_values(float* y, const float* p, const float* v, int64_t stride,
                                        int64_t n, float factor, int count = kWidth) {
  Vec even[kVectors] = {}, odd[kVectors] = {};
  const auto add = [&](Vec* sums, int64_t u) __attribute__((always_inline)) {
    const Vec weight = set1(p[u]);
    for (int i = 0; i < kVectors; ++i)
      sums[i] = fma(weight, load_n(v + u * stride + i * kWidth, count), sums[i]);
  };
  int64_t u = 0;
  for (; u + 2 <= n; u += 2) add(even, u), add(odd, u + 1);
  if (u < n) add(even, u);
  for (int i = 0; i < kVectors; ++i) store_n(y + i * kWidth, (even[i] + odd[i]) * factor, count);
}

// y and lse of all queries of the heads that share the keys of head g. s: as many floats as there
// are keys, in whole vectors.
void attend_few(const Attention& a, int64_t b, int64_t g, float* s) {
  const AttentionSizes n = sizes_of(a);
  const float *k = a.k.as<float>() + n.key(b, 0, g), *v = a.v.as<float>() + n.key(b, 0, g);
  for (int64_t h = g * n.group(); h < (g + 1) * n.group(); ++h)
    for (int64_t t = 0; t < n.T; ++t) {
      const int64_t keys = clamp64(n.seen(t), n.K), stride = n.key_stride();
      score_keys(s, a.q.as<float>() + n.query(b, t, h), k, stride, keys, n.d, a.scale);
      const float max = max_row(s, keys), sum = exp_row(s, keys, shift_of(max));
      const float factor = keys > 0 ? 1 / sum : 0.0f;
      float* y = a.y.as<float>() + n.query(b, t, h);
      int64_t c = 0;
      for (; c + 4 * kWidth <= n.d; c += 4 * kWidth)
        add_values<4>(y + c, s, v + c, stride, keys, factor);
      for (; c + kWidth <= n.d; c += kWidth) add_values<1>(y + c, s, v + c, stride, keys, factor);
      if (c < n.d) add_values<1>(y + c, s, v + c, stride, keys, factor, static_cast<int>(n.d - c));
      a.lse.as<float>()[(b * n.H + h) * n.T + t] = max + __builtin_logf(sum);
    }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
