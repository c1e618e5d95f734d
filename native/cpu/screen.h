// int8 screening: the k largest of the scores <x, y_j>, j in [0, n), of which only a few are
// multiplied in float32. Included inside an instruction-set pass; for AVX-512 with VNNI.
//
// cpu/int8_bounds.h bounds every score from above and from below. If the lower bounds of k scores
// reach t, no score whose upper bound is below t is among the k largest; the others, the
// candidates, are scored in float32. The result is that of float32 alone, to the bit.

#if defined(ML_CPU_SCREEN_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_CPU_SCREEN_H
#undef ML_CPU_SCREEN_H
#else
#define ML_CPU_SCREEN_H
#endif

#include "cpu/gemm_tile.h"
#include "cpu/int8_bounds.h"
#include "cpu/pack.h"
#include "cpu/rows.h"
#include "cpu/select.h"
#include "cpu/threshold.h"
#include "cpu/tuning.h"

#if ML_ISA_LEVEL == 3

namespace ml::cpu::ML_ISA {
namespace {

// Lane i: the sum of the lanes of v[i], in one order for all i.
inline Vec reduce_each(Vec (&v)[kWidth]) {
  __m512 s[4];  // in every four lanes: sums of those lanes of four vectors
  for (int i = 0; i < 4; ++i) {
    transpose_4x4(v[4 * i], v[4 * i + 1], v[4 * i + 2], v[4 * i + 3]);
    s[i] = (__m512)((v[4 * i] + v[4 * i + 1]) + (v[4 * i + 2] + v[4 * i + 3]));
  }
  const __m512 even01 = _mm512_shuffle_f32x4(s[0], s[1], 0x88),
               odd01 = _mm512_shuffle_f32x4(s[0], s[1], 0xdd);
  const __m512 even23 = _mm512_shuffle_f32x4(s[2], s[3], 0x88),
               odd23 = _mm512_shuffle_f32x4(s[2], s[3], 0xdd);
  const __m512 first = _mm512_add_ps(_mm512_shuffle_f32x4(even01, even23, 0x88),
                                     _mm512_shuffle_f32x4(odd01, odd23, 0x88));
  const __m512 last = _mm512_add_ps(_mm512_shuffle_f32x4(even01, even23, 0xdd),
                                    _mm512_shuffle_f32x4(odd01, odd23, 0xdd));
  return (Vec)_mm512_add_ps(first, last);
}

// Lane r * kWidth / kRows + c: <rows[r], columns[c]>, of kRows rows and kWidth / kRows columns. A
// product has one order of its sum, whatever is computed beside it.
template <int kRows>
inline __attribute__((always_inline)) Vec exact_products(
    const float* const (&rows)[kRows], const float* const (&columns)[kWidth / kRows], int64_t d) {
  constexpr int kColumns = kWidth / kRows;
  Vec acc[kWidth] = {};
  for_vectors(d, [&](int64_t k, int n) __attribute__((always_inline)) {
    Vec x[kRows];
    for (int r = 0; r < kRows; ++r) x[r] = load_n(rows[r] + k, n);
    for (int c = 0; c < kColumns; ++c) {
      const Vec y = load_n(columns[c] + k, n);
      for (int r = 0; r < kRows; ++r) acc[r * kColumns + c] = fma(x[r], y, acc[r * kColumns + c]);
    }
  });
  return reduce_each(acc);
}

// scores[c] = <x, y_j> with j = indices[c], y [n, d]. `indices` and `scores` have space for a
// vector behind `count`.
inline void score_candidates(const float* x, const float* y, int64_t d, int32_t* indices,
                             int64_t count, float* scores) {
  const float* const row[1] = {x};
  for (int i = 0; i < kWidth; ++i) indices[count + i] = indices[0];
  for (int64_t c = 0; c < count; c += kWidth) {
    const float* columns[kWidth];
    for (int i = 0; i < kWidth; ++i) columns[i] = y + indices[c + i] * d;
    store(scores + c, exact_products<1>(row, columns, d));
  }
}

constexpr int kScoredRows = 4;  // rows by columns at a time: as many of each load the least
static_assert(kScoredRows * kScoredRows == kWidth);

// scores[r][j] = <rows[r], y_j> of all n columns. `scores` have space for a vector behind n.
inline void score_all(const float* const (&rows)[kScoredRows], const float* y, int64_t d, int64_t n,
                      float* const (&scores)[kScoredRows]) {
  for (int64_t j = 0; j < n; j += kScoredRows) {
    const float* columns[kScoredRows];
    for (int c = 0; c < kScoredRows; ++c) columns[c] = y + (j + c < n ? j + c : n - 1) * d;
    alignas(64) float sums[kWidth];
    store(sums, exact_products<kScoredRows>(rows, columns, d));
    for (int r = 0; r < kScoredRows; ++r)
      __builtin_memcpy(scores[r] + j, sums + r * kScoredRows, kScoredRows * sizeof(float));
  }
}

// Positions of the x[0 … n) within [low, high), in ascending order. Returns how many.
inline int64_t find_between(const float* x, int64_t n, float low, float high, int32_t* positions) {
  int64_t count = 0;
  __m512i position = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int64_t i = 0; i < n;
       i += kWidth, position = _mm512_add_epi32(position, _mm512_set1_epi32(kWidth))) {
    const __m512 v = (__m512)load(x + i);
    const __mmask16 low_reached = _mm512_cmp_ps_mask(v, (__m512)set1(low), _CMP_GE_OQ);
    const __mmask16 found = _mm512_mask_cmp_ps_mask(low_reached, v, (__m512)set1(high), _CMP_LT_OQ);
    _mm512_storeu_si512(positions + count, _mm512_maskz_compress_epi32(found, position));
    count += popcount(found);
  }
  return count;
}

// The k largest of <x, y_j>, j in [0, n), by their upper bounds. The lower bounds of k scores reach
// `threshold`, and so their upper bounds reach `first`. Bounds, threshold and first are divided by
// `scale`. False if there are too many candidates.
inline bool select_screened(const float* x, const float* y, int64_t d, const float* bounds,
                            int64_t n, int64_t k, float scale, float threshold, float first,
                            float* values, int32_t* indices) {
  Candidates all, best;
  const int64_t count = collect_candidates(bounds, n, threshold, all);
  if (count < k) return false;
  alignas(64) float scores[kMaxCandidates + kWidth];
  for (int64_t i = 0; i < count; i += kWidth) store(scores + i, set1(-__builtin_inff()));
  store(all.values + count, set1(-__builtin_inff()));
  int32_t positions[kMaxCandidates + kWidth];
  // The largest bounds first: the k-th of their scores leaves few of the others.
  const auto score = [&](float low, float high) {
    const int64_t some = find_between(all.values, count, low, high, positions);
    for (int64_t i = 0; i < some; ++i) best.indices[i] = all.indices[positions[i]];
    if (some) score_candidates(x, y, d, best.indices, some, best.values);
    for (int64_t i = 0; i < some; ++i) scores[positions[i]] = best.values[i];
    return some;
  };
  const int64_t scored = score(first, __builtin_inff());
  store(best.values + scored, set1(-__builtin_inff()));
  Vec maxima[kMaxCandidates / kWidth + 1];
  for (int64_t i = 0; i < scored; i += kWidth) maxima[i / kWidth] = load(best.values + i);
  float kth;  // at most the k-th score
  if (!find_threshold(maxima, static_cast<int>(divide_up(scored, kWidth)), k, kth)) return false;
  score(kth / scale, first);
  const int64_t left = collect_candidates(scores, count, kth, best);
  for (int64_t i = 0; i < left; ++i) best.indices[i] = all.indices[best.indices[i]];
  return rank_candidates(best, left, k, values, indices);
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif

#endif
