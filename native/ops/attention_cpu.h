// What forward and backward of attention share: one head's rows in panels, products of register
// tiles where the causal mask has a staircase, and the exponential. Included inside an
// instruction-set pass.
//
// Of a tile of queries and keys the pairs that are seen are a staircase: row r has `first` + r *
// step columns of it, or fewer where the tile ends. Products skip the others, pair by pair, since
// 0 * NaN would reach a query that doesn't see the NaN.

#if defined(ML_OPS_ATTENTION_CPU_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_OPS_ATTENTION_CPU_H
#undef ML_OPS_ATTENTION_CPU_H
#else
#define ML_OPS_ATTENTION_CPU_H
#endif

#include "cpu/gemm_tile.h"
#include "cpu/rows.h"
#include "cpu/tuning.h"
#include "ops/attention.h"

namespace ml::cpu::ML_ISA {
namespace {

constexpr int64_t kBlock = kAttentionBlock;
static_assert(kBlock % kTileRows == 0 && kBlock % kTileColumns == 0);
// From one query's scores to the next's: an odd number of cache lines, so that a column of a block
// falls into different sets of the cache.
constexpr int64_t kScorePitch = kBlock + 16;
// The same for the rows of a block of queries.
constexpr int64_t kRowPitch = kMaxHeadWidth + 16;

[[maybe_unused]] inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
[[maybe_unused]] inline int64_t clamp64(int64_t n, int64_t most) {
  return n < 0 ? 0 : min64(n, most);
}

struct AttentionSizes {
  int64_t T, H, K, G, d;
  bool causal;
  int64_t group() const { return H / G; }
  int64_t padded() const { return round_up(d, kTileColumns); }  // d in whole column panels
  int64_t query_stride() const { return H * d; }
  int64_t key_stride() const { return G * d; }
  int64_t query(int64_t b, int64_t t, int64_t h) const { return ((b * T + t) * H + h) * d; }
  int64_t key(int64_t b, int64_t u, int64_t g) const { return ((b * K + u) * G + g) * d; }
  // Keys that query t sees; negative where the first key comes after it.
  int64_t seen(int64_t t) const { return causal ? K - T + t + 1 : K; }
};

template <class Args>
AttentionSizes sizes_of(const Args& a) {
  return {a.q.dim(1), a.q.dim(2), a.k.dim(1), a.k.dim(2), a.q.dim(3), a.causal};
}

// panels [rows / kTileColumns, d, kTileColumns]: the transpose of rows [rows, d], `stride` apart.
[[maybe_unused]] inline void pack_transposed(float* panels, const float* data, int64_t stride,
                                             int64_t rows, int64_t d) {
  const Matrix m{.data = data, .row_stride = 1, .column_stride = stride};
  for (int64_t i = 0; i < rows; i += kTileColumns) pack_columns(panels + i * d, m, 0, d, i, rows);
}

// panels [d / kTileColumns, capacity, kTileColumns]: `scale` times rows [rows, d], `stride` apart;
// zeros past d. Row by row: rows may be whole pages apart, and then share few sets of the cache.
[[maybe_unused]] inline void pack_straight(float* panels, int64_t capacity, const float* data,
                                           int64_t stride, int64_t rows, int64_t d, float scale) {
  for (int64_t u = 0; u < rows; ++u) {
    float* panel = panels + u * kTileColumns;
    const float* row = data + u * stride;
    int64_t c = 0;
    for (; c + kTileColumns <= d; c += kTileColumns, panel += capacity * kTileColumns)
      for (int v = 0; v < kTileColumns; v += kWidth) store(panel + v, load(row + c + v) * scale);
    if (c < d)
      for (int64_t v = 0; v < kTileColumns; ++v) panel[v] = c + v < d ? row[c + v] * scale : 0.0f;
  }
}

// to [whole tiles of rows, kRowPitch] = `scale` times rows [rows, d], `stride` apart; zeros up to
// the end of the last column panel, and in the rows that fill the last tile.
[[maybe_unused]] inline void copy_rows(float* to, const float* data, int64_t stride, int64_t rows,
                                       int64_t d, float scale) {
  for (int64_t t = 0; t < rows; ++t)
    pack_straight(to + t * kRowPitch, 1, data + t * stride, stride, 1, d, scale);
  for (int64_t t = rows; t < round_up(rows, kTileRows); ++t)
    for (int64_t i = 0; i < d; ++i) to[t * kRowPitch + i] = 0;
}

// to [n] = scale times from [n], which is readable in whole vectors.
[[maybe_unused]] inline void copy_row(float* to, const float* from, int64_t n, float scale) {
  for_vectors(n, [&](int64_t i, int c) { store_n(to + i, load(from + i) * scale, c); });
}

[[gnu::always_inline, maybe_unused]] inline void load_tile(RegisterTile& acc, const float* c,
                                                           int64_t ldc) {
  for (int r = 0; r < kTileRows; ++r)
    for (int v = 0; v < kTileVectors; ++v) acc[r][v] = load(c + r * ldc + v * kWidth);
}
[[gnu::always_inline, maybe_unused]] inline void store_tile(float* c, int64_t ldc,
                                                            const RegisterTile& acc) {
  for (int r = 0; r < kTileRows; ++r)
    for (int v = 0; v < kTileVectors; ++v) store(c + r * ldc + v * kWidth, acc[r][v]);
}

// s [kTileRows, keys] = rows [kTileRows, d] of a block of queries times a block of keys; s is
// written in whole panels, the last of which may be half a one.
[[maybe_unused]] inline void multiply_scores(float* s, const float* rows, const float* panels,
                                             int64_t keys, int64_t d) {
  int64_t u = 0;
  for (; u + kWidth < keys; u += kTileColumns) {
    RegisterTile acc{};
    multiply_tile<1, kRowPitch>(acc, rows, panels + u * d, kTileColumns, d);
    store_tile(s + u, kScorePitch, acc);
  }
  if (u >= keys) return;
  Vec acc[kTileRows] = {};
  for (int64_t k = 0; k < d; ++k) {
    const Vec b = load(panels + u * d + k * kTileColumns);
    for (int r = 0; r < kTileRows; ++r) acc[r] = fma(set1(rows[r * kRowPitch + k]), b, acc[r]);
  }
  for (int r = 0; r < kTileRows; ++r) store(s + r * kScorePitch + u, acc[r]);
}

// acc += p [kTileRows, keys] times b [keys, kTileColumns]: query r sees first + r * step keys.
[[gnu::always_inline, maybe_unused]] inline void add_seen_keys(RegisterTile& acc, const float* p,
                                                               const float* b, int64_t first,
                                                               int64_t step, int64_t keys) {
  const int64_t whole = clamp64(first, keys);
  multiply_tile<1, kScorePitch>(acc, p, b, kTileColumns, whole);
  for (int64_t u = whole; u < keys; ++u)
    multiply_rows<kScorePitch>(acc, p + u, b + u * kTileColumns, step ? u - first + 1 : kTileRows,
                               kTileRows);
}

// acc += the transpose of p [queries, kTileRows] times b [queries, kTileColumns], kRowPitch apart:
// query t sees first + t * step keys.
[[gnu::always_inline, maybe_unused]] inline void add_seeing_queries(RegisterTile& acc,
                                                                    const float* p, const float* b,
                                                                    int64_t first, int64_t step,
                                                                    int64_t queries) {
  int64_t t = step ? clamp64(1 - first, queries) : 0;  // the first one that sees key 0
  const int64_t whole = step ? clamp64(kTileRows - first, queries) : 0;
  for (; t < whole; ++t)
    multiply_rows<1>(acc, p + t * kScorePitch, b + t * kRowPitch, 0, first + t);
  multiply_tile<kScorePitch, 1>(acc, p + t * kScorePitch, b + t * kRowPitch, kRowPitch,
                                queries - t);
}

// v in the first n lanes, `other` in those behind.
[[maybe_unused]] inline Vec first_lanes(Vec v, int64_t n, float other) {
  IVec lanes;
  for (int i = 0; i < kWidth; ++i) lanes[i] = i;
  return lanes < static_cast<int32_t>(n) ? v : set1(other);
}

// e^x within 2 ulp for x <= 89, 0 below -88, NaN for NaN: x = n ln 2 + r, a polynomial in r of
// degree 5 with relative error 1.1e-7, times 2^n.
[[maybe_unused]] inline Vec exp_of_score(Vec x) {
  x = max(set1(-88.0f), x);
  // 1.5 * 2^23: adding it rounds to an integer; 127 more is the exponent of 2^n.
  const Vec magic = set1(12582912.0f + 127.0f);
  const Vec shifted = fma(x, set1(1.44269504088896341f), magic);
  const Vec r = fma(shifted - magic, set1(-0.693147180559945309f), x);
  Vec p = set1(0.008312477730214596f);
  p = fma(p, r, set1(0.041890550404787064f));
  p = fma(p, r, set1(0.16667115688323975f));
  p = fma(p, r, set1(0.4999922811985016f));
  p = fma(p, r, set1(1.0f));
  p = fma(p, r, set1(1.0f));
  return p * as_float(as_int(shifted) << 23);
}

// What is taken from scores before the exponential. Where there is nothing but -Inf yet, that
// weighs nothing, whatever comes.
[[maybe_unused]] inline float shift_of(float max) { return max == -__builtin_inff() ? 0.0f : max; }

// s [n] = exp(s - shift), zeros up to the end of the last vector; returns their sum.
[[gnu::always_inline, maybe_unused]] inline float exp_row(float* s, int64_t n, float shift) {
  Vec sum{};
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    const Vec p = exp_of_score(load(s + i) - shift);
    store(s + i, p);
    sum += p;
  }
  if (i < n) {
    const Vec p = first_lanes(exp_of_score(load(s + i) - shift), n - i, 0);
    store(s + i, p);
    sum += p;
  }
  return reduce_add(sum);
}

// The max of s [n], which is readable to the end of the last vector; NaN left out.
[[gnu::always_inline, maybe_unused]] inline float max_row(const float* s, int64_t n) {
  Vec m = set1(-__builtin_inff());
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) m = max(load(s + i), m);
  if (i < n) m = max(first_lanes(load(s + i), n - i, -__builtin_inff()), m);
  return reduce_max(m);
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
