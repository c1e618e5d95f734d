// Thresholds that at least k elements of a row reach, from its lane maxima. Included inside an
// instruction-set pass, like simd.h.
//
// A row is reduced to lane maxima, twice as many as k or more. Each is an element of its own, so a
// threshold that k maxima reach, found by bisection, is one that k elements of the row reach.

#if defined(ML_CPU_THRESHOLD_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_CPU_THRESHOLD_H
#undef ML_CPU_THRESHOLD_H
#else
#define ML_CPU_THRESHOLD_H
#endif

#include "cpu/pack.h"
#include "cpu/tuning.h"

namespace ml::cpu::ML_ISA {
namespace {

constexpr float kMaxFloat = 3.402823466e38f;  // the largest finite number

[[maybe_unused]] inline int popcount(uint32_t mask) { return __builtin_popcount(mask); }

// One bit per lane where a >= b (false for NaN).
[[maybe_unused]] inline uint32_t greater_equal_bits(Vec a, Vec b) {
#if ML_ISA_LEVEL == 3
  return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OQ);
#elif ML_ISA_LEVEL == 2
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_GE_OQ)));
#elif defined(__SSE2__)
  return static_cast<uint32_t>(_mm_movemask_ps(_mm_cmpge_ps((__m128)a, (__m128)b)));
#else
  uint32_t bits = 0;
  for (int i = 0; i < kWidth; ++i) bits |= static_cast<uint32_t>(a[i] >= b[i]) << i;
  return bits;
#endif
}

// Vectors of lane maxima that make a good threshold for k.
[[maybe_unused]] constexpr int lane_maxima_vectors(int64_t k) {
  return static_cast<int>((2 * k + kWidth - 1) / kWidth);
}

// Lane maxima of x[0 … n), padded with -Inf to whole vectors. Returns the number of vectors.
[[maybe_unused]] inline int lane_maxima(const float* x, int64_t n, int64_t k, Vec* maxima) {
  const int64_t row_vectors = (n + kWidth - 1) / kWidth;
  // Short rows are their own maxima.
  const int vectors = n <= kMaxLaneMaxima || row_vectors < lane_maxima_vectors(k)
                          ? static_cast<int>(row_vectors)
                          : lane_maxima_vectors(k);
  const Vec lowest = set1(-__builtin_inff());
  for (int v = 0; v < vectors; ++v) maxima[v] = lowest;
  int64_t i = 0;
  int v = 0;
  for (; i + kWidth <= n; i += kWidth) {
    maxima[v] = max(load(x + i), maxima[v]);
    v = v + 1 == vectors ? 0 : v + 1;
  }
  if (i < n) {
    const int rest = static_cast<int>(n - i);
    Vec last = load_partial(x + i, rest);
    for (int l = rest; l < kWidth; ++l) last[l] = -__builtin_inff();
    maxima[v] = max(last, maxima[v]);
  }
  return vectors;
}

// A finite threshold that k of the maxima reach, and few more; false if there is none.
[[maybe_unused]] inline bool find_threshold(const Vec* maxima, int vectors, int64_t k,
                                            float& threshold) {
  Vec top = maxima[0], bottom = set1(kMaxFloat);
  for (int v = 0; v < vectors; ++v) {
    top = max(maxima[v], top);
    bottom = min(maxima[v] >= -kMaxFloat ? maxima[v] : set1(kMaxFloat), bottom);
  }
  float low = reduce_min(bottom);
  float high = reduce_max(top);
  if (!(high <= kMaxFloat) || !(low <= high)) return false;
  const auto reaching = [&](float t) {
    int64_t count = 0;
    for (int v = 0; v < vectors; ++v) count += popcount(greater_equal_bits(maxima[v], set1(t)));
    return count;
  };
  if (reaching(low) < k) return false;
  for (int step = 0; step < kBisections; ++step) {
    const float middle = low + (high - low) * 0.5f;
    const bool reached = reaching(middle) >= k;
    low = reached ? middle : low;
    high = reached ? high : middle;
  }
  threshold = low;
  return true;
}

// The same for kWidth rows at once, one in each lane. maxima [kWidth, count]; thresholds [kWidth],
// NaN where there is none. lanes: workspace for count * kWidth.
[[maybe_unused]] inline void find_thresholds(const float* maxima, int64_t count, int64_t k,
                                             float* lanes, float* thresholds) {
  pack<kWidth>(lanes, {maxima, count, 1}, 0, kWidth, 0, count);
  Vec low = set1(kMaxFloat), high = set1(-__builtin_inff());
  IVec finite{};
  for (int64_t i = 0; i < count; ++i) {
    const Vec v = load(lanes + i * kWidth);
    const IVec is_finite = v >= -kMaxFloat;
    finite -= is_finite;
    high = max(v, high);
    low = min(is_finite ? v : set1(kMaxFloat), low);
  }
  const IVec enough = IVec{} + static_cast<int32_t>(k);
  const Vec usable = (high <= kMaxFloat) & (finite >= enough) ? Vec{} : set1(__builtin_nanf(""));
  for (int step = 0; step < kBisections; ++step) {
    const Vec middle = low + (high - low) * 0.5f;
    IVec reached{};
    for (int64_t i = 0; i < count; ++i) reached -= load(lanes + i * kWidth) >= middle;
    low = reached >= enough ? middle : low;
    high = reached >= enough ? high : middle;
  }
  store(thresholds, low + usable);
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
