// The k greatest of a row, by vectors. Included inside an instruction-set pass, after cpu/pack.h.
//
// 1. The row is folded into lane maxima, twice as many as k; a threshold that at least k of them
// reach is found by bisection. Each maximum is
//    an element of its own, so at least k elements reach the threshold.
// 2. What reaches it, and every NaN, is compressed into a buffer, in ascending index.
// 3. Candidates are ranked by counting how many are greater; of equal ones, how many stand before.
// Rows it can't take (NaN, infinite thresholds, too many survivors, large k) go to cpu/order.h,
// which has the same order.

#if defined(ML_CPU_SELECT_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_CPU_SELECT_H
#undef ML_CPU_SELECT_H
#else
#define ML_CPU_SELECT_H
#endif

#include "cpu/order.h"
#include "cpu/pack.h"
#include "cpu/tuning.h"

namespace ml::cpu::ML_ISA {
namespace {

constexpr float kMaxFloat = 3.402823466e38f;

struct Candidates {
  alignas(64) float values[kMaxCandidates + kWidth];
  alignas(64) int32_t indices[kMaxCandidates + kWidth];
};

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

// Vectors of maxima that make a good threshold for k.
[[maybe_unused]] constexpr int lane_maxima_vectors(int64_t k) {
  return static_cast<int>((2 * k + kWidth - 1) / kWidth);
}

// Lane maxima of x[0 … n); padded with -Inf to whole vectors. Returns the number of vectors.
[[maybe_unused]] inline int lane_maxima(const float* x, int64_t n, int64_t k, Vec* maxima) {
  const int64_t vectors = (n + kWidth - 1) / kWidth;
  // Short rows are their own maxima.
  const int folds = n <= kMaxLaneMaxima || vectors < lane_maxima_vectors(k)
                        ? static_cast<int>(vectors)
                        : lane_maxima_vectors(k);
  const Vec lowest = set1(-__builtin_inff());
  for (int f = 0; f < folds; ++f) maxima[f] = lowest;
  int64_t i = 0;
  int f = 0;
  for (; i + kWidth <= n; i += kWidth) {
    maxima[f] = max(load(x + i), maxima[f]);
    f = f + 1 == folds ? 0 : f + 1;
  }
  if (i < n) {
    const int rest = static_cast<int>(n - i);
    Vec v = load_partial(x + i, rest);
    for (int l = rest; l < kWidth; ++l) v[l] = -__builtin_inff();
    maxima[f] = max(v, maxima[f]);
  }
  return folds;
}

// A finite threshold that k of the maxima reach, and few more; false if there is none.
[[maybe_unused]] inline bool find_threshold(const Vec* maxima, int folds, int64_t k,
                                            float& threshold) {
  Vec top = maxima[0], bottom = set1(kMaxFloat);
  for (int f = 0; f < folds; ++f) {
    top = max(maxima[f], top);
    bottom = min(maxima[f] >= -kMaxFloat ? maxima[f] : set1(kMaxFloat), bottom);
  }
  float low = reduce_min(bottom);
  float high = reduce_max(top);
  if (!(high <= kMaxFloat) || !(low <= high)) return false;
  const auto reach = [&](float t) {
    int64_t count = 0;
    for (int f = 0; f < folds; ++f) count += popcount(greater_equal_bits(maxima[f], set1(t)));
    return count;
  };
  if (reach(low) < k) return false;
  for (int step = 0; step < kBisections; ++step) {
    const float middle = low + (high - low) * 0.5f;
    const bool reached = reach(middle) >= k;
    low = reached ? middle : low;
    high = reached ? high : middle;
  }
  threshold = low;
  return true;
}

// The same for kWidth rows at once, one in each lane. maxima [rows, count]; thresholds [kWidth],
// NaN where there is none. lanes: room for count * kWidth.
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

#if ML_ISA_LEVEL == 2
// The lanes of each mask, first to last, one byte each.
struct LaneTable {
  uint64_t lanes[256] = {};
  constexpr LaneTable() {
    for (int mask = 0; mask < 256; ++mask)
      for (int lane = 0, at = 0; lane < 8; ++lane)
        if (mask >> lane & 1) lanes[mask] |= static_cast<uint64_t>(lane) << 8 * at++;
  }
};
constexpr LaneTable kLaneTable;
#endif

// What is not below the threshold, NaN among it, in ascending index; -1 if it does not fit.
[[maybe_unused]] inline int64_t collect_candidates(const float* x, int64_t n, float threshold,
                                                   Candidates& s) {
  int64_t count = 0;
  int64_t i = 0;
#if ML_ISA_LEVEL == 3
  const __m512 t = _mm512_set1_ps(threshold);
  __m512i index = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (; i + kWidth <= n; i += kWidth, index = _mm512_add_epi32(index, _mm512_set1_epi32(kWidth))) {
    const __mmask16 keep = _mm512_cmp_ps_mask(_mm512_loadu_ps(x + i), t, _CMP_NLT_UQ);
    _mm512_storeu_si512(s.indices + count, _mm512_maskz_compress_epi32(keep, index));
    count += popcount(keep);
    if (count > kMaxCandidates) return -1;
  }
#elif ML_ISA_LEVEL == 2
  const __m256 t = _mm256_set1_ps(threshold);
  for (; i + kWidth <= n; i += kWidth) {
    const int keep = _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x + i), t, _CMP_NLT_UQ));
    const __m256i lanes = _mm256_cvtepu8_epi32(
        _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kLaneTable.lanes + keep)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(s.indices + count),
                        _mm256_add_epi32(lanes, _mm256_set1_epi32(static_cast<int>(i))));
    count += popcount(static_cast<uint32_t>(keep));
    if (count > kMaxCandidates) return -1;
  }
#else
  const Vec t = set1(threshold);
  for (; i + kWidth <= n; i += kWidth) {
    for (uint32_t mask = ~greater_bits(t, load(x + i)) & ((1u << kWidth) - 1); mask;
         mask &= mask - 1)
      s.indices[count++] = static_cast<int32_t>(i + __builtin_ctz(mask));
    if (count > kMaxCandidates) return -1;
  }
#endif
  for (; i < n; ++i) {
    s.indices[count] = static_cast<int32_t>(i);
    count += !(x[i] < threshold);
    if (count > kMaxCandidates) return -1;
  }
  for (int64_t c = 0; c < count; ++c) s.values[c] = x[s.indices[c]];
  return count;
}

// ranks[l] of kVectors vectors of survivors, from lane `first` on: how many of all are greater.
template <int kVectors>
[[maybe_unused]] inline void count_greater(const Candidates& s, int64_t first, int64_t count,
                                           int32_t* ranks) {
  IVec rank[kVectors] = {};
  Vec own[kVectors];
  for (int v = 0; v < kVectors; ++v) own[v] = load(s.values + first + v * kWidth);
  for (int64_t i = 0; i < count; ++i) {
    const Vec one = set1(s.values[i]);
    for (int v = 0; v < kVectors; ++v) {
#if ML_ISA_LEVEL == 3
      rank[v] = (IVec)_mm512_mask_add_epi32(
          (__m512i)rank[v], _mm512_cmp_ps_mask((__m512)one, (__m512)own[v], _CMP_GT_OQ),
          (__m512i)rank[v], _mm512_set1_epi32(1));
#else
      rank[v] -= one > own[v];  // -1 where true
#endif
    }
  }
  for (int v = 0; v < kVectors; ++v)
    __builtin_memcpy(ranks + first + v * kWidth, &rank[v], sizeof(IVec));
}

// Of equal survivors the first comes first; false if one is NaN.
[[maybe_unused]] __attribute__((noinline)) bool rank_ties(const Candidates& s, int64_t count,
                                                          int32_t* ranks) {
  for (int64_t i = 0; i < count; ++i) {
    if (s.values[i] != s.values[i]) return false;
    for (int64_t before = 0; before < i; ++before) ranks[i] += s.values[before] == s.values[i];
  }
  return true;
}

// Writes the k first of the survivors in the total order; false if there is a NaN among them.
[[maybe_unused]] inline bool rank_candidates(Candidates& s, int64_t count, int64_t k, float* values,
                                             int32_t* indices) {
  constexpr int kVectors = 3;
  int32_t ranks[kMaxCandidates + kVectors * kWidth];
  store(s.values + count, set1(-__builtin_inff()));
  for (int64_t first = 0; first < count;) {
    const bool several = count - first > (kVectors - 1) * kWidth;
    several ? count_greater<kVectors>(s, first, count, ranks)
            : count_greater<1>(s, first, count, ranks);
    first += (several ? kVectors : 1) * kWidth;
  }
  // 0 + 1 + … if every rank is there once: no two are equal, none is NaN.
  int64_t sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += ranks[i];
  if (sum != count * (count - 1) / 2 && !rank_ties(s, count, ranks)) return false;
  struct Place {
    float value;
    int32_t index;
  } sorted[kMaxCandidates];
  for (int64_t i = 0; i < count; ++i) sorted[ranks[i]] = {s.values[i], s.indices[i]};
  const int64_t found = count < k ? count : k;
  for (int64_t r = 0; r < found; ++r) {
    values[r] = sorted[r].value;
    indices[r] = sorted[r].index;
  }
  return true;
}

// The k first of x[0 … n), of which at least k are not below the threshold; false if this way can't
// take them.
[[maybe_unused]] inline bool select_above(const float* x, int64_t n, int64_t k, float threshold,
                                          float* values, int32_t* indices) {
  Candidates survivors;
  const int64_t count = collect_candidates(x, n, threshold, survivors);
  return count >= 0 && rank_candidates(survivors, count, k, values, indices);
}

// The same by sorting, for any row; `nan` is set if it holds one. Returns how many (see sort_top).
// keys: room for n.
[[maybe_unused]] inline int64_t select_sorted(const float* x, int64_t n, int64_t k,
                                              bool skip_masked, float* values, int32_t* indices,
                                              uint64_t* keys, bool& nan) {
  nan = false;
  for (int64_t i = 0; i < n; ++i) nan |= x[i] != x[i];
  return sort_top(x, n, k, skip_masked, values, indices, keys);
}

// The k first of x[0 … n) in the total order, by whichever way takes them.
[[maybe_unused]] inline int64_t select_top(const float* x, int64_t n, int64_t k, bool skip_masked,
                                           float* values, int32_t* indices, uint64_t* keys,
                                           bool& nan) {
  if (k <= kMaxVectorK && k < n) {
    Vec maxima[kMaxLaneMaxima / kWidth];
    float threshold;
    const int folds = lane_maxima(x, n, k, maxima);
    if (find_threshold(maxima, folds, k, threshold) &&
        select_above(x, n, k, threshold, values, indices)) {
      nan = false;
      return k;
    }
  }
  return select_sorted(x, n, k, skip_masked, values, indices, keys, nan);
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
