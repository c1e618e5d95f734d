// Scores <x, y_j> of which only the greatest are wanted: products of bytes bound each from above,
// and only what may be among the greatest is multiplied in float32. Included inside an
// instruction-set pass, after cpu/gemm.h and cpu/select.h.
//
// A line x becomes bytes, x ~ a b with a = max |x| / 127 and b rounded; y_j likewise, y_j ~ a_j
// b_j. By Cauchy and Schwarz
//   |<x, y_j> - <a b, a_j b_j>|  <=  |x| |y_j - a_j b_j| + |x - a b| |a_j b_j|  <=  (|x| rho + |x -
//   a b|) |a_j b_j|
// where rho is the greatest |y_j - a_j b_j| / |a_j b_j|. So, everything divided by a, which is the
// same for all j,
//   bound_j = a_j <b, b_j> + c |a_j b_j|,      c = (|x| rho + |x - a b|) / a
// is at least the score, and bound_j - 2 c |a_j b_j| at most. If k of the latter reach t, no score
// whose bound is below t is among the k greatest. c has room for the roundings of all this and of
// the float32 product.

#if defined(ML_CPU_SCREEN_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_CPU_SCREEN_H
#undef ML_CPU_SCREEN_H
#else
#define ML_CPU_SCREEN_H
#endif

#include "cpu/rows.h"
#include "cpu/select.h"

#if ML_ISA_LEVEL == 3

namespace ml::cpu::ML_ISA {
namespace {

constexpr int kGroup = 4;                 // bytes that one instruction adds up in each lane
constexpr int64_t kFewestScreened = 512;  // lines; of fewer, float32 is as fast
// <b, b_j> and what it is added up from stay below 2^31
constexpr int64_t kLongestScreened = 1 << 16;
// greatest number of a line: its square is neither subnormal
constexpr float kLeastScreened = 1e-15f;
constexpr float kMostScreened = 1e15f;  // nor infinite

// What is known of a line and its bytes.
struct ByteLine {
  bool usable;                           // finite, and neither too small nor too great
  float scale, norm, bytes_norm, error;  // a, |x|, |a b|, |x - a b|
  int32_t sum;                           // of its bytes
};

// keep(i, bytes): of 16 numbers from i on, zeros behind d.
template <class Keep>
inline ByteLine to_bytes(const float* x, int64_t d, Keep&& keep) {
  IVec most{};  // of magnitudes, by their bits: NaN and infinities are above all else
  for_vectors(d, [&](int64_t i, int n) {
    const IVec magnitude = as_int(load_n(x + i, n)) & 0x7fffffff;
    most = magnitude > most ? magnitude : most;
  });
  const int32_t bits = _mm512_reduce_max_epi32((__m512i)most);
  float greatest;
  __builtin_memcpy(&greatest, &bits, sizeof(greatest));
  ByteLine line{};
  line.usable = greatest == 0 || (greatest >= kLeastScreened && greatest <= kMostScreened);
  if (!line.usable) return line;
  line.scale = greatest == 0 ? 1.0f : greatest / 127.0f;
  const Vec scale = set1(line.scale), inverse = set1(1.0f / line.scale);
  Vec norm{}, bytes_norm{}, error{};
  IVec sum{};
  for_vectors(d, [&](int64_t i, int n) {
    const Vec v = load_n(x + i, n);
    const IVec b = (IVec)_mm512_cvtps_epi32((__m512)(v * inverse));
    const Vec near = __builtin_convertvector(b, Vec);
    const Vec rest = fma(-near, scale, v);
    norm = fma(v, v, norm);
    bytes_norm = fma(near, near, bytes_norm);
    error = fma(rest, rest, error);
    sum += b;
    keep(i, _mm512_cvtepi32_epi8((__m512i)b));
  });
  line.norm = __builtin_sqrtf(reduce_add(norm));
  line.bytes_norm = line.scale * __builtin_sqrtf(reduce_add(bytes_norm));
  line.error = __builtin_sqrtf(reduce_add(error));
  line.sum = _mm512_reduce_add_epi32((__m512i)sum);
  return line;
}

// Keeps bytes i … i + 15 of a line of d: each group at its place, the places `apart` bytes from one
// another.
template <class Byte>
inline __attribute__((always_inline)) void keep_groups(Byte* line, int64_t apart, int64_t i,
                                                       int64_t d, __m128i bytes) {
  alignas(16) uint32_t groups[4];
  _mm_store_si128(reinterpret_cast<__m128i*>(groups), bytes);
  for (int g = 0; g < 4 && i + g * kGroup < d; ++g)
    __builtin_memcpy(line + (i / kGroup + g) * apart, &groups[g], kGroup);
}

// The lines y of one matrix as bytes.
struct ByteColumns {
  // [columns / kTileColumns, groups, kTileColumns, kGroup], each 128 more than it is: one operand
  // has no sign
  uint8_t* panels;
  float* scales;  // [columns], 0 past n
  float* norms;   // [columns]: |a_j b_j|; -Inf past n
};

// What a panel of them adds to what is known of all.
struct ByteBounds {
  bool usable = true;
  float rounding = 0, norm = __builtin_inff();  // rho, min |a_j b_j|
  void join(const ByteBounds& other) {
    usable &= other.usable;
    rounding = other.rounding > rounding ? other.rounding : rounding;
    norm = other.norm < norm ? other.norm : norm;
  }
};

inline int64_t groups_of(int64_t d) { return divide_up(d, kGroup); }

// Panel of columns j0 … j0 + kTileColumns.
inline ByteBounds pack_byte_columns(const ByteColumns& to, const float* lines, int64_t d,
                                    int64_t j0, int64_t n) {
  uint8_t* panel = to.panels + j0 * groups_of(d) * kGroup;
  ByteBounds all;
  for (int64_t j = n > j0 ? n : j0; j < j0 + kTileColumns; ++j) {
    to.scales[j] = 0;
    to.norms[j] = -__builtin_inff();
  }
  for (int64_t j = j0; j < j0 + kTileColumns && j < n; ++j) {
    uint8_t* column = panel + (j - j0) * kGroup;
    const ByteLine line = to_bytes(lines + j * d, d, [&](int64_t i, __m128i bytes) {
      keep_groups(column, kTileColumns * kGroup, i, d, _mm_xor_si128(bytes, _mm_set1_epi8(-128)));
    });
    to.scales[j] = line.scale;
    to.norms[j] = line.bytes_norm;
    all.join(
        {line.usable, line.bytes_norm > 0 ? line.error / line.bytes_norm : 0.0f, line.bytes_norm});
  }
  return all;
}

// Rows x as bytes: panels [groups, kTileRows, kGroup] of kTileRows of them.
struct ByteRows {
  int8_t* panels;
  int32_t* offsets;  // [rows]: -128 times the sum of the row's bytes
  float* slack;      // [rows]: c; NaN if the row can't be screened
  float* scales;     // [rows]: a
};

// Row r of the block. Its other rows may be whatever.
inline void pack_byte_row(const ByteRows& to, int64_t r, const float* x, int64_t d,
                          const ByteBounds& columns) {
  int8_t* row =
      to.panels + r / kTileRows * kTileRows * groups_of(d) * kGroup + r % kTileRows * kGroup;
  const ByteLine line = to_bytes(
      x, d, [&](int64_t i, __m128i bytes) { keep_groups(row, kTileRows * kGroup, i, d, bytes); });
  to.offsets[r] = -128 * line.sum;
  to.scales[r] = line.scale;
  // A float32 product of d terms in kWidth chains is within d / kWidth + 5 roundings of |x| |y|; as
  // many again are more than those of the bounds.
  const float exact = static_cast<float>(d / kWidth + 32) * 0x1p-24f * (1.0f + columns.rounding);
  // Never 0, so that columns past n have bounds of -Inf.
  to.slack[r] =
      line.usable
          ? 1.01f * (line.norm * (columns.rounding + exact) + line.error) / line.scale + 1e-30f
          : __builtin_nanf("");
}

// In each lane: adds the products of four bytes of x, without sign, and four of y, with. As an
// intrinsic, g++ copies every sum to another register and to memory at each step.
[[maybe_unused]] inline __attribute__((always_inline)) __m512i add_byte_products(__m512i sum,
                                                                                 __m512i x,
                                                                                 __m512i y) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(y));
  return sum;
}

// bound_j of the kTileRows rows from r0 on and the columns of the panel at j, into a tile whose
// rows are `stride` apart, and the greatest that a score is at least, of each lane, into the maxima
// of those rows.
inline void bound_tile(const ByteRows& rows, int64_t r0, const ByteColumns& columns, int64_t j,
                       int64_t groups, float* tile, int64_t stride, float* maxima,
                       int64_t maxima_stride) {
  const int8_t* a = rows.panels + r0 * groups * kGroup;
  const uint8_t* b = columns.panels + j * groups * kGroup;
  __m512i acc[kTileRows][kTileVectors];
  for (int r = 0; r < kTileRows; ++r)
    for (int v = 0; v < kTileVectors; ++v) acc[r][v] = _mm512_set1_epi32(rows.offsets[r0 + r]);
  for (int64_t g = 0; g < groups; ++g, a += kTileRows * kGroup, b += kTileColumns * kGroup) {
    const __m512i b0 = _mm512_loadu_si512(b), b1 = _mm512_loadu_si512(b + 64);
    for (int r = 0; r < kTileRows; ++r) {
      int32_t four;
      __builtin_memcpy(&four, a + r * kGroup, kGroup);
      const __m512i x = _mm512_set1_epi32(four);
      acc[r][0] = add_byte_products(acc[r][0], b0, x);
      acc[r][1] = add_byte_products(acc[r][1], b1, x);
    }
  }
  const Vec scale[kTileVectors] = {load(columns.scales + j), load(columns.scales + j + kWidth)};
  const Vec norm[kTileVectors] = {load(columns.norms + j), load(columns.norms + j + kWidth)};
#pragma GCC unroll 12
  for (int r = 0; r < kTileRows; ++r, tile += stride, maxima += maxima_stride) {
    const Vec c = set1(rows.slack[r0 + r]), twice = -2 * c;
    Vec greatest = load(maxima);
    for (int v = 0; v < kTileVectors; ++v) {
      const Vec bound = fma(c, norm[v], (Vec)_mm512_cvtepi32_ps(acc[r][v]) * scale[v]);
      greatest = max(fma(twice, norm[v], bound), greatest);  // NaN past n, and left out
      store(tile + v * kWidth, bound);
    }
    store(maxima, greatest);
  }
}

// Lane i: the sum of v[i]'s lanes, in one order for all i.
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

// Lane r * kWidth / kRows + l: <rows[r], lines[l]>, of kRows rows and kWidth / kRows lines. A
// product has one order of its sum, whatever is asked for beside it.
template <int kRows>
inline __attribute__((always_inline)) Vec exact_products(
    const float* const (&rows)[kRows], const float* const (&lines)[kWidth / kRows], int64_t d) {
  constexpr int kLines = kWidth / kRows;
  Vec acc[kWidth] = {};
  for_vectors(d, [&](int64_t k, int n) __attribute__((always_inline)) {
    Vec x[kRows];
    for (int r = 0; r < kRows; ++r) x[r] = load_n(rows[r] + k, n);
    for (int l = 0; l < kLines; ++l) {
      const Vec y = load_n(lines[l] + k, n);
      for (int r = 0; r < kRows; ++r) acc[r * kLines + l] = fma(x[r], y, acc[r * kLines + l]);
    }
  });
  return reduce_each(acc);
}

// scores[c] = <x, lines[indices[c]]>. `indices` and `scores` have room for a vector behind `count`.
inline void score_lines(const float* x, const float* lines, int64_t d, int32_t* indices,
                        int64_t count, float* scores) {
  const float* const row[1] = {x};
  for (int i = 0; i < kWidth; ++i) indices[count + i] = indices[0];
  for (int64_t c = 0; c < count; c += kWidth) {
    const float* at[kWidth];
    for (int i = 0; i < kWidth; ++i) at[i] = lines + indices[c + i] * d;
    store(scores + c, exact_products<1>(row, at, d));
  }
}

constexpr int kScoredRows = 4;  // as many rows as lines at once read the least
static_assert(kScoredRows * kScoredRows == kWidth);

// scores[r][j] = <rows[r], lines[j]> of all n lines. `scores` has room for a vector behind n.
inline void score_all(const float* const (&rows)[kScoredRows], const float* lines, int64_t d,
                      int64_t n, float* const (&scores)[kScoredRows]) {
  for (int64_t j = 0; j < n; j += kScoredRows) {
    const float* at[kScoredRows];
    for (int l = 0; l < kScoredRows; ++l) at[l] = lines + (j + l < n ? j + l : n - 1) * d;
    alignas(64) float sums[kWidth];
    store(sums, exact_products<kScoredRows>(rows, at, d));
    for (int r = 0; r < kScoredRows; ++r)
      __builtin_memcpy(scores[r] + j, sums + r * kScoredRows, kScoredRows * sizeof(float));
  }
}

// What of some numbers lies in [least, below): their positions, in ascending order. Returns how
// many.
inline int64_t find_between(const float* x, int64_t n, float least, float below,
                            int32_t* positions) {
  int64_t count = 0;
  __m512i position = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int64_t i = 0; i < n;
       i += kWidth, position = _mm512_add_epi32(position, _mm512_set1_epi32(kWidth))) {
    const __m512 v = (__m512)load(x + i);
    const __mmask16 least_reached = _mm512_cmp_ps_mask(v, (__m512)set1(least), _CMP_GE_OQ);
    const __mmask16 found =
        _mm512_mask_cmp_ps_mask(least_reached, v, (__m512)set1(below), _CMP_LT_OQ);
    _mm512_storeu_si512(positions + count, _mm512_maskz_compress_epi32(found, position));
    count += popcount(found);
  }
  return count;
}

// The k greatest of <x, lines[j]>, j in [0, n), by bounds of them. k scores reach `threshold`, and
// the bounds of k reach `first`. Bounds and thresholds are divided by `scale`. False if too many
// must be multiplied.
inline bool select_screened(const float* x, const float* lines, int64_t d, const float* bounds,
                            int64_t n, int64_t k, float scale, float threshold, float first,
                            float* values, int32_t* indices) {
  Candidates all, best;
  const int64_t count = collect_candidates(bounds, n, threshold, all);
  if (count < k) return false;
  alignas(64) float scores[kMaxCandidates + kWidth];
  for (int64_t i = 0; i < count; i += kWidth) store(scores + i, set1(-__builtin_inff()));
  store(all.values + count, set1(-__builtin_inff()));
  int32_t positions[kMaxCandidates + kWidth];
  // The greatest bounds first: k of their scores leave few of the others.
  const auto score = [&](float least, float below) {
    const int64_t some = find_between(all.values, count, least, below, positions);
    for (int64_t i = 0; i < some; ++i) best.indices[i] = all.indices[positions[i]];
    if (some) score_lines(x, lines, d, best.indices, some, best.values);
    for (int64_t i = 0; i < some; ++i) scores[positions[i]] = best.values[i];
    return some;
  };
  const int64_t scored = score(first, __builtin_inff());
  store(best.values + scored, set1(-__builtin_inff()));
  Vec folds[kMaxCandidates / kWidth + 1];
  for (int64_t i = 0; i < scored; i += kWidth) folds[i / kWidth] = load(best.values + i);
  float least;
  if (!find_threshold(folds, static_cast<int>(divide_up(scored, kWidth)), k, least)) return false;
  score(least / scale, first);
  const int64_t left = collect_candidates(scores, count, least, best);
  for (int64_t i = 0; i < left; ++i) best.indices[i] = all.indices[best.indices[i]];
  return rank_candidates(best, left, k, values, indices);
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif

#endif
