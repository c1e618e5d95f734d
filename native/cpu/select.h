// The k greatest of a row, by vectors. Included inside an instruction-set pass, like simd.h.
//
// 1. The row is folded into a few hundred lane maxima; a threshold that at least k of them reach is found by bisection. Each maximum is an
//    element of its own, so at least k elements reach the threshold.
// 2. What reaches it is compressed into a buffer, in ascending index.
// 3. Survivors are ranked by counting how many stand before each.
// Rows it can't take (NaN, infinite thresholds, too many survivors, large k) go to cpu/order.h, which has the same order.

#include "cpu/order.h"

namespace ml::cpu::ML_ISA {
namespace {

constexpr int64_t kMostFast = 64;        // greatest k of the vector path
constexpr int64_t kMostSurvivors = 256;  // its buffer; more: the sorting path
constexpr int kMostMaxima = 256;

struct Survivors {
  alignas(64) float values[kMostSurvivors + kWidth];
  alignas(64) int32_t indices[kMostSurvivors + kWidth];
};

[[maybe_unused]] inline int bits_set(uint32_t mask) { return __builtin_popcount(mask); }

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

// Lane maxima of x[0 … n), at least `least` of them; padded with -Inf to whole vectors. Returns the number of vectors;
// sets `nan` if the row holds one.
[[maybe_unused]] inline int fold_maxima(const float* x, int64_t n, int64_t least, Vec* maxima, bool& nan) {
  const int64_t vectors = (n + kWidth - 1) / kWidth;
  int folds = static_cast<int>((least + kWidth - 1) / kWidth);
  if (folds > vectors) folds = static_cast<int>(vectors);
  const Vec lowest = set1(-__builtin_inff());
  for (int f = 0; f < folds; ++f) maxima[f] = lowest;
  IVec unordered{};
  int64_t i = 0;
  int f = 0;
  for (; i + kWidth <= n; i += kWidth) {
    const Vec v = load(x + i);
    unordered |= v != v;
    maxima[f] = max(v, maxima[f]);
    f = f + 1 == folds ? 0 : f + 1;
  }
  if (i < n) {
    const int rest = static_cast<int>(n - i);
    Vec v = load_partial(x + i, rest);
    for (int l = rest; l < kWidth; ++l) v[l] = -__builtin_inff();
    unordered |= v != v;
    maxima[f] = max(v, maxima[f]);
  }
  int any = 0;
  for (int l = 0; l < kWidth; ++l) any |= unordered[l];
  nan = any != 0;
  return folds;
}

// A finite threshold that k … of the maxima reach, tight within a few; false if there is none.
[[maybe_unused]] inline bool find_threshold(const Vec* maxima, int folds, int64_t k, float& threshold) {
  constexpr float kGreatest = 3.402823466e38f;
  Vec top = maxima[0], bottom = set1(kGreatest);
  for (int f = 0; f < folds; ++f) {
    top = max(maxima[f], top);
    bottom = min(maxima[f] >= -kGreatest ? maxima[f] : set1(kGreatest), bottom);
  }
  float low = kGreatest;
  for (int l = 0; l < kWidth; ++l) low = bottom[l] < low ? bottom[l] : low;
  float high = reduce_max(top);
  if (!(high <= kGreatest) || !(low <= high)) return false;
  const auto reach = [&](float t) {
    int64_t count = 0;
    for (int f = 0; f < folds; ++f) count += bits_set(greater_equal_bits(maxima[f], set1(t)));
    return count;
  };
  if (reach(low) < k) return false;
  for (int step = 0; step < 12; ++step) {
    const float middle = low + (high - low) * 0.5f;
    if (!(middle > low && middle < high)) break;
    const int64_t count = reach(middle);
    if (count >= k) {
      low = middle;
      if (count <= k + k / 16) break;
    } else {
      high = middle;
    }
  }
  threshold = low;
  return true;
}

// Values that reach the threshold, in ascending index; -1 if they do not fit.
[[maybe_unused]] inline int64_t collect(const float* x, int64_t n, float threshold, Survivors& s) {
  int64_t count = 0;
  int64_t i = 0;
#if ML_ISA_LEVEL == 3
  __m512i index = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512 t = _mm512_set1_ps(threshold);
  for (; i < n; i += kWidth, index = _mm512_add_epi32(index, _mm512_set1_epi32(kWidth))) {
    const int64_t left = n - i;
    const __mmask16 inside = left >= kWidth ? __mmask16{0xffff} : static_cast<__mmask16>((1u << left) - 1u);
    const __m512 v = _mm512_maskz_loadu_ps(inside, x + i);
    const __mmask16 keep = _mm512_mask_cmp_ps_mask(inside, v, t, _CMP_GE_OQ);
    _mm512_storeu_ps(s.values + count, _mm512_maskz_compress_ps(keep, v));
    _mm512_storeu_si512(s.indices + count, _mm512_maskz_compress_epi32(keep, index));
    count += bits_set(keep);
    if (count > kMostSurvivors) return -1;
  }
#else
  const auto keep = [&](int64_t at) {
    s.values[count] = x[at];
    s.indices[count++] = static_cast<int32_t>(at);
  };
  const Vec t = set1(threshold);
  for (; i + kWidth <= n; i += kWidth) {
    for (uint32_t mask = greater_equal_bits(load(x + i), t); mask; mask &= mask - 1) keep(i + __builtin_ctz(mask));
    if (count > kMostSurvivors) return -1;
  }
  for (; i < n; ++i)
    if (x[i] >= threshold) keep(i);
  if (count > kMostSurvivors) return -1;
#endif
  return count;
}

// Writes each survivor to its place in the total order, if that is below k.
[[maybe_unused]] inline void rank_survivors(Survivors& s, int64_t count, int64_t k, float* values, int32_t* indices) {
  const Vec lowest = set1(-__builtin_inff());
  store(s.values + count, lowest);  // past the end nothing counts
  const int64_t vectors = (count + kWidth - 1) / kWidth;
  for (int64_t i = 0; i < count; ++i) {
    const Vec own = set1(s.values[i]);
    const int64_t v0 = i / kWidth;
    const uint32_t before = (1u << (i % kWidth)) - 1u;
    int64_t rank = 0;
    for (int64_t v = 0; v < v0; ++v) rank += bits_set(greater_equal_bits(load(s.values + v * kWidth), own));
    const Vec mine = load(s.values + v0 * kWidth);
    rank += bits_set((greater_equal_bits(mine, own) & before) | greater_bits(mine, own));
    for (int64_t v = v0 + 1; v < vectors; ++v) rank += bits_set(greater_bits(load(s.values + v * kWidth), own));
    if (rank < k) {
      values[rank] = s.values[i];
      indices[rank] = s.indices[i];
    }
  }
}

// The k first of x[0 … n) in the total order; returns how many (see sort_top). keys: room for n.
[[maybe_unused]] inline int64_t select_top(const float* x, int64_t n, int64_t k, bool skip_masked, float* values, int32_t* indices,
                                           uint64_t* keys, bool& nan) {
  Vec maxima[kMostMaxima / kWidth];
  maxima[0] = set1(-__builtin_inff());
  // Twice k maxima; short rows are their own maxima.
  const int64_t least = n <= kMostMaxima ? n : 2 * k;
  nan = false;
  if (k <= kMostFast && k < n) {
    const int folds = fold_maxima(x, n, least, maxima, nan);
    float threshold;
    if (!nan && find_threshold(maxima, folds, k, threshold)) {
      Survivors survivors;
      const int64_t count = collect(x, n, threshold, survivors);
      if (count >= 0) {
        rank_survivors(survivors, count, k, values, indices);
        return k;
      }
    }
  } else {
    for (int64_t i = 0; i < n; ++i) nan |= x[i] != x[i];
  }
  return sort_top(x, n, k, skip_masked, values, indices, keys);
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
