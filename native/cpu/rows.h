// Loops over contiguous floats, whole vectors first and the odd rest as a partial vector. Included
// inside an instruction-set pass, like simd.h.

#if defined(ML_CPU_ROWS_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_CPU_ROWS_H
#undef ML_CPU_ROWS_H
#else
#define ML_CPU_ROWS_H
#endif

namespace ml::cpu::ML_ISA {
namespace {

// body(offset, n): n = kWidth, and once fewer at the end
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

// Neighbours first. A tree of calls, since the compiler does not unroll the loops and keeps the
// vectors in memory.
template <int n>
[[gnu::always_inline, maybe_unused]] inline Vec sum_of(const Vec* v) {
  if constexpr (n == 1)
    return v[0];
  else
    return sum_of<n / 2>(v) + sum_of<n / 2>(v + n / 2);
}

// sum of x[i] * y[i], in the same order whatever calls it; kChains (a power of two): sums side by
// side, where one would be waited for
template <int kChains = 1>
[[maybe_unused]] inline float dot(const float* x, const float* y, int64_t count) {
  Vec sum[kChains] = {};
  int64_t i = 0;
  for (; i + kChains * kWidth <= count; i += kChains * kWidth)
    for (int v = 0; v < kChains; ++v)
      sum[v] = fma(load(x + i + v * kWidth), load(y + i + v * kWidth), sum[v]);
#pragma GCC unroll 4
  for (int v = 0; v < kChains; ++v, i += kWidth) {
    if (i >= count) break;
    const int n = count - i < kWidth ? static_cast<int>(count - i) : kWidth;
    sum[v] = fma(load_n(x + i, n), load_n(y + i, n), sum[v]);
  }
  return reduce_add(sum_of<kChains>(sum));
}

// The greatest of x, NaN left out; -Inf of none.
[[maybe_unused]] inline float max_of(const float* x, int64_t count) {
  Vec m[4];
  for (Vec& v : m) v = set1(-__builtin_inff());
  int64_t i = 0;
  for (; i + 4 * kWidth <= count; i += 4 * kWidth)
    for (int v = 0; v < 4; ++v) m[v] = max(load(x + i + v * kWidth), m[v]);
  for (; i + kWidth <= count; i += kWidth) m[0] = max(load(x + i), m[0]);
  float greatest = reduce_max(max(max(m[0], m[1]), max(m[2], m[3])));
  for (; i < count; ++i) greatest = x[i] > greatest ? x[i] : greatest;
  return greatest;
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
