// The k largest of a row, by vectors. Included inside an instruction-set pass, like simd.h.
//
// 1. Lane maxima give a threshold that at least k elements reach (cpu/threshold.h).
// 2. The candidates, what reaches it and every NaN, are compressed into a buffer, by ascending
// index.
// 3. A candidate's rank is the count of those that are greater, or equal with a smaller index.
//
// Rows that this path does not take (NaN, infinite thresholds, too many candidates, large k) are
// sorted by cpu/order.h, in the same order.

#if defined(ML_CPU_SELECT_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_CPU_SELECT_H
#undef ML_CPU_SELECT_H
#else
#define ML_CPU_SELECT_H
#endif

#include "cpu/order.h"
#include "cpu/threshold.h"
#include "cpu/tuning.h"

namespace ml::cpu::ML_ISA {
namespace {

struct Candidates {
  alignas(64) float values[kMaxCandidates + kWidth];
  alignas(64) int32_t indices[kMaxCandidates + kWidth];
};

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

// What is not below the threshold, NaN included, by ascending index. Returns how many; -1 if they
// do not fit.
[[maybe_unused]] inline int64_t collect_candidates(const float* x, int64_t n, float threshold,
                                                   Candidates& c) {
  int64_t count = 0;
  int64_t i = 0;
#if ML_ISA_LEVEL == 3
  const __m512 t = _mm512_set1_ps(threshold);
  __m512i index = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (; i + kWidth <= n; i += kWidth, index = _mm512_add_epi32(index, _mm512_set1_epi32(kWidth))) {
    const __mmask16 keep = _mm512_cmp_ps_mask(_mm512_loadu_ps(x + i), t, _CMP_NLT_UQ);
    _mm512_storeu_si512(c.indices + count, _mm512_maskz_compress_epi32(keep, index));
    count += popcount(keep);
    if (count > kMaxCandidates) return -1;
  }
#elif ML_ISA_LEVEL == 2
  const __m256 t = _mm256_set1_ps(threshold);
  for (; i + kWidth <= n; i += kWidth) {
    const int keep = _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x + i), t, _CMP_NLT_UQ));
    const __m256i lanes = _mm256_cvtepu8_epi32(
        _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kLaneTable.lanes + keep)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(c.indices + count),
                        _mm256_add_epi32(lanes, _mm256_set1_epi32(static_cast<int>(i))));
    count += popcount(static_cast<uint32_t>(keep));
    if (count > kMaxCandidates) return -1;
  }
#else
  const Vec t = set1(threshold);
  for (; i + kWidth <= n; i += kWidth) {
    for (uint32_t mask = ~greater_bits(t, load(x + i)) & ((1u << kWidth) - 1); mask;
         mask &= mask - 1)
      c.indices[count++] = static_cast<int32_t>(i + __builtin_ctz(mask));
    if (count > kMaxCandidates) return -1;
  }
#endif
  for (; i < n; ++i) {
    c.indices[count] = static_cast<int32_t>(i);
    count += !(x[i] < threshold);
    if (count > kMaxCandidates) return -1;
  }
  for (int64_t j = 0; j < count; ++j) c.values[j] = x[c.indices[j]];
  return count;
}

// Ranks of kVectors vectors of candidates from `first` on: how many of all `count` are greater.
template <int kVectors>
[[maybe_unused]] inline void count_greater(const Candidates& c, int64_t first, int64_t count,
                                           int32_t* ranks) {
  IVec rank[kVectors] = {};
  Vec own[kVectors];
  for (int v = 0; v < kVectors; ++v) own[v] = load(c.values + first + v * kWidth);
  for (int64_t i = 0; i < count; ++i) {
    const Vec one = set1(c.values[i]);
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

// Adds to each rank how many equal candidates come before it; false if one is NaN.
[[maybe_unused]] __attribute__((noinline)) bool rank_ties(const Candidates& c, int64_t count,
                                                          int32_t* ranks) {
  for (int64_t i = 0; i < count; ++i) {
    if (c.values[i] != c.values[i]) return false;
    for (int64_t before = 0; before < i; ++before) ranks[i] += c.values[before] == c.values[i];
  }
  return true;
}

// Writes the k first of the candidates in the total order; false if one of them is NaN.
[[maybe_unused]] inline bool rank_candidates(Candidates& c, int64_t count, int64_t k, float* values,
                                             int32_t* indices) {
  constexpr int kVectors = 3;
  int32_t ranks[kMaxCandidates + kVectors * kWidth];
  store(c.values + count, set1(-__builtin_inff()));
  for (int64_t first = 0; first < count;) {
    const bool several = count - first > (kVectors - 1) * kWidth;
    several ? count_greater<kVectors>(c, first, count, ranks)
            : count_greater<1>(c, first, count, ranks);
    first += (several ? kVectors : 1) * kWidth;
  }
  // 0 + 1 + … if every rank occurs once: no two are equal, none is NaN.
  int64_t sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += ranks[i];
  if (sum != count * (count - 1) / 2 && !rank_ties(c, count, ranks)) return false;
  struct Element {
    float value;
    int32_t index;
  } sorted[kMaxCandidates];
  for (int64_t i = 0; i < count; ++i) sorted[ranks[i]] = {c.values[i], c.indices[i]};
  const int64_t found = count < k ? count : k;
  for (int64_t r = 0; r < found; ++r) {
    values[r] = sorted[r].value;
    indices[r] = sorted[r].index;
  }
  return true;
}

// The k first of x[0 … n), of which at least k are not below the threshold; false if there are too
// many candidates or a NaN.
[[maybe_unused]] inline bool select_above(const float* x, int64_t n, int64_t k, float threshold,
                                          float* values, int32_t* indices) {
  Candidates candidates;
  const int64_t count = collect_candidates(x, n, threshold, candidates);
  return count >= 0 && rank_candidates(candidates, count, k, values, indices);
}

// The same by sorting, for any row. Sets `nan` to whether it holds one. Returns how many (see
// sort_top). keys: workspace for n.
[[maybe_unused]] inline int64_t select_sorted(const float* x, int64_t n, int64_t k,
                                              bool skip_masked, float* values, int32_t* indices,
                                              uint64_t* keys, bool& nan) {
  nan = false;
  for (int64_t i = 0; i < n; ++i) nan |= x[i] != x[i];
  return sort_top(x, n, k, skip_masked, values, indices, keys);
}

// The k first of x[0 … n) in the total order: by vectors, or sorted.
[[maybe_unused]] inline int64_t select_top(const float* x, int64_t n, int64_t k, bool skip_masked,
                                           float* values, int32_t* indices, uint64_t* keys,
                                           bool& nan) {
  if (k <= kMaxVectorK && k < n) {
    Vec maxima[kMaxLaneMaxima / kWidth];
    float threshold;
    const int vectors = lane_maxima(x, n, k, maxima);
    if (find_threshold(maxima, vectors, k, threshold) &&
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
