// Loops over contiguous floats, whole vectors first and the remainder as a partial vector. Included
// inside an instruction-set pass, like simd.h.

#if defined(ML_CPU_ROWS_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_CPU_ROWS_H
#undef ML_CPU_ROWS_H
#else
#define ML_CPU_ROWS_H
#endif

namespace ml::cpu::ML_ISA {
namespace {

// body(offset, n): n = kWidth, and fewer for the remainder
template <class F>
[[maybe_unused]] inline void for_vectors(int64_t count, F&& body) {
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) body(i, kWidth);
  if (i < count) body(i, static_cast<int>(count - i));
}

[[maybe_unused]] inline Vec load_n(const float* p, int n) {
  return n == kWidth ? load(p) : load_partial(p, n);
}
[[maybe_unused]] inline void store_n(float* p, Vec v, int n) {
  if (n == kWidth) {
    store(p, v);
  } else {
    store_partial(p, v, n);
  }
}

// v[0] + … + v[n - 1], pairwise. A tree of calls: with a loop the vectors are spilled to memory.
template <int n>
[[gnu::always_inline, maybe_unused]] inline Vec tree_sum(const Vec* v) {
  if constexpr (n == 1)
    return v[0];
  else
    return tree_sum<n / 2>(v) + tree_sum<n / 2>(v + n / 2);
}

// sum of x[i] * y[i], in one order for each kAccumulators. kAccumulators (a power of two): sums
// side by side, which hide the latency of an addition
template <int kAccumulators = 1>
[[maybe_unused]] inline float dot(const float* x, const float* y, int64_t count) {
  Vec sum[kAccumulators] = {};
  int64_t i = 0;
  for (; i + kAccumulators * kWidth <= count; i += kAccumulators * kWidth)
    for (int v = 0; v < kAccumulators; ++v)
      sum[v] = fma(load(x + i + v * kWidth), load(y + i + v * kWidth), sum[v]);
#pragma GCC unroll 4
  for (int v = 0; v < kAccumulators; ++v, i += kWidth) {
    if (i >= count) break;
    const int n = count - i < kWidth ? static_cast<int>(count - i) : kWidth;
    sum[v] = fma(load_n(x + i, n), load_n(y + i, n), sum[v]);
  }
  return reduce_add(tree_sum<kAccumulators>(sum));
}

// The max of x, NaN left out; -Inf of none.
[[maybe_unused]] inline float max_of(const float* x, int64_t count) {
  Vec m[4];
  for (Vec& v : m) v = set1(-__builtin_inff());
  int64_t i = 0;
  for (; i + 4 * kWidth <= count; i += 4 * kWidth)
    for (int v = 0; v < 4; ++v) m[v] = max(load(x + i + v * kWidth), m[v]);
  for (; i + kWidth <= count; i += kWidth) m[0] = max(load(x + i), m[0]);
  float result = reduce_max(max(max(m[0], m[1]), max(m[2], m[3])));
  for (; i < count; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

// sum of exp(x[i] - max): whole vectors in the lanes of one, then the remainder one by one. y: the
// exponentials, if not nullptr; it may be x.
[[gnu::always_inline, maybe_unused]] inline float exp_sum(const float* x, int64_t count, float max,
                                                          float* y) {
  Vec sums{};
  float rest = 0;
  for_vectors(count, [&](int64_t i, int n) __attribute__((always_inline)) {
    const Vec e = exp(load_n(x + i, n) - max);
    if (y) store_n(y + i, e, n);
    if (n == kWidth)
      sums += e;
    else
      for (int l = 0; l < n; ++l) rest += e[l];
  });
  return reduce_add(sums) + rest;
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
