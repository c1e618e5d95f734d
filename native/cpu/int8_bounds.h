// Upper bounds of scores <x, y_j> from products of int8. Included inside an instruction-set pass;
// for AVX-512 with VNNI.
//
// A row x is quantised: x ~ a b with a = max |x| / 127 and b rounded; so is each column, y_j ~ a_j
// b_j. By Cauchy and Schwarz
//
//   |<x, y_j> - <a b, a_j b_j>|  <=  |x| |y_j - a_j b_j| + |x - a b| |a_j b_j|
//                                <=  (|x| rho + |x - a b|) |a_j b_j|
//
// where rho is the max over j of |y_j - a_j b_j| / |a_j b_j|. So, all divided by a, which is the
// same for every j,
//
//   bound_j = a_j <b, b_j> + c |a_j b_j|,      c = (|x| rho + |x - a b|) / a
//
// is at least the score, and bound_j - 2 c |a_j b_j| at most. c, the margin of the row, also covers
// the roundings of all this and of the float32 product.

#if defined(ML_CPU_INT8_BOUNDS_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_CPU_INT8_BOUNDS_H
#undef ML_CPU_INT8_BOUNDS_H
#else
#define ML_CPU_INT8_BOUNDS_H
#endif

#include "cpu/gemm_tile.h"
#include "cpu/rows.h"

#if ML_ISA_LEVEL == 3

namespace ml::cpu::ML_ISA {
namespace {

constexpr int kGroupBytes = 4;  // that one vpdpbusd adds up in each lane
// depth: <b, b_j> and its partial sums stay below 2^31
constexpr int64_t kMaxScreenedDepth = 1 << 16;
// max |x| of a row: its square is neither subnormal nor infinite
constexpr float kMinScreenedMagnitude = 1e-15f;
constexpr float kMaxScreenedMagnitude = 1e15f;

// A quantised vector, without its bytes.
struct QuantisedVector {
  bool usable;                           // finite, and within the magnitudes above
  float scale, norm, bytes_norm, error;  // a, |x|, |a b|, |x - a b|
  int32_t sum;                           // of its bytes
};

// keep(i, bytes) stores 16 bytes from i on, zeros behind d.
template <class Keep>
inline QuantisedVector quantise(const float* x, int64_t d, Keep&& keep) {
  IVec max_bits{};  // of magnitudes: as integers, NaN and infinities are above all else
  for_vectors(d, [&](int64_t i, int n) {
    const IVec magnitude = as_int(load_n(x + i, n)) & 0x7fffffff;
    max_bits = magnitude > max_bits ? magnitude : max_bits;
  });
  const int32_t bits = _mm512_reduce_max_epi32((__m512i)max_bits);
  float max;
  __builtin_memcpy(&max, &bits, sizeof(max));
  QuantisedVector q{};
  q.usable = max == 0 || (max >= kMinScreenedMagnitude && max <= kMaxScreenedMagnitude);
  if (!q.usable) return q;
  q.scale = max == 0 ? 1.0f : max / 127.0f;
  const Vec scale = set1(q.scale), inverse = set1(1.0f / q.scale);
  Vec norm{}, bytes_norm{}, error{};
  IVec sum{};
  for_vectors(d, [&](int64_t i, int n) {
    const Vec v = load_n(x + i, n);
    const IVec b = (IVec)_mm512_cvtps_epi32((__m512)(v * inverse));
    const Vec rounded = __builtin_convertvector(b, Vec);
    const Vec residual = fma(-rounded, scale, v);
    norm = fma(v, v, norm);
    bytes_norm = fma(rounded, rounded, bytes_norm);
    error = fma(residual, residual, error);
    sum += b;
    keep(i, _mm512_cvtepi32_epi8((__m512i)b));
  });
  q.norm = __builtin_sqrtf(reduce_add(norm));
  q.bytes_norm = q.scale * __builtin_sqrtf(reduce_add(bytes_norm));
  q.error = __builtin_sqrtf(reduce_add(error));
  q.sum = _mm512_reduce_add_epi32((__m512i)sum);
  return q;
}

inline int64_t groups_of(int64_t d) { return divide_up(d, kGroupBytes); }

// Stores bytes i … i + 15 of a vector of d, group by group, `stride` bytes from one to the next.
template <class Byte>
inline __attribute__((always_inline)) void store_groups(Byte* to, int64_t stride, int64_t i,
                                                        int64_t d, __m128i bytes) {
  alignas(16) uint32_t groups[4];
  _mm_store_si128(reinterpret_cast<__m128i*>(groups), bytes);
  for (int g = 0; g < 4 && i + g * kGroupBytes < d; ++g)
    __builtin_memcpy(to + (i / kGroupBytes + g) * stride, &groups[g], kGroupBytes);
}

// The columns y_j of one matrix, quantised.
struct QuantisedColumns {
  // [columns / kTileColumns, groups, kTileColumns, kGroupBytes], each byte plus 128: one operand of
  // vpdpbusd is unsigned
  uint8_t* panels;
  float* scales;  // [columns]: a_j; 0 past n
  float* norms;   // [columns]: |a_j b_j|; -Inf past n
};

// What holds for all columns of a panel, or of a matrix.
struct ColumnBounds {
  bool usable = true;
  float rounding = 0, norm = __builtin_inff();  // rho, min |a_j b_j|
  void merge(const ColumnBounds& other) {
    usable &= other.usable;
    rounding = other.rounding > rounding ? other.rounding : rounding;
    norm = other.norm < norm ? other.norm : norm;
  }
};

// The panel of columns j0 … j0 + kTileColumns of y [n, d].
inline ColumnBounds quantise_columns(const QuantisedColumns& to, const float* y, int64_t d,
                                     int64_t j0, int64_t n) {
  uint8_t* panel = to.panels + j0 * groups_of(d) * kGroupBytes;
  ColumnBounds all;
  for (int64_t j = n > j0 ? n : j0; j < j0 + kTileColumns; ++j) {
    to.scales[j] = 0;
    to.norms[j] = -__builtin_inff();
  }
  for (int64_t j = j0; j < j0 + kTileColumns && j < n; ++j) {
    uint8_t* column = panel + (j - j0) * kGroupBytes;
    const QuantisedVector q = quantise(y + j * d, d, [&](int64_t i, __m128i bytes) {
      store_groups(column, kTileColumns * kGroupBytes, i, d,
                   _mm_xor_si128(bytes, _mm_set1_epi8(-128)));
    });
    to.scales[j] = q.scale;
    to.norms[j] = q.bytes_norm;
    all.merge({q.usable, q.bytes_norm > 0 ? q.error / q.bytes_norm : 0.0f, q.bytes_norm});
  }
  return all;
}

// Rows x of a block, quantised, in panels of kTileRows.
struct QuantisedRows {
  int8_t* panels;    // [rows / kTileRows, groups, kTileRows, kGroupBytes]
  int32_t* offsets;  // [rows]: -128 times the sum of the row's bytes
  float* margins;    // [rows]: c; NaN if the row can't be screened
  float* scales;     // [rows]: a
};

// Row r of the block. The other rows of its panel may be undefined.
inline void quantise_row(const QuantisedRows& to, int64_t r, const float* x, int64_t d,
                         const ColumnBounds& columns) {
  int8_t* row = to.panels + r / kTileRows * kTileRows * groups_of(d) * kGroupBytes +
                r % kTileRows * kGroupBytes;
  const QuantisedVector q = quantise(x, d, [&](int64_t i, __m128i bytes) {
    store_groups(row, kTileRows * kGroupBytes, i, d, bytes);
  });
  to.offsets[r] = -128 * q.sum;
  to.scales[r] = q.scale;
  // A float32 product of d terms in kWidth sums is within d / kWidth + 5 roundings of |x| |y|; as
  // many again are more than those of the bounds.
  const float exact = static_cast<float>(d / kWidth + 32) * 0x1p-24f * (1.0f + columns.rounding);
  // Never 0, so that columns past n have bounds of -Inf.
  to.margins[r] = q.usable
                      ? 1.01f * (q.norm * (columns.rounding + exact) + q.error) / q.scale + 1e-30f
                      : __builtin_nanf("");
}

// In each lane: sum += the products of four bytes of x, unsigned, and four of y, signed. As an
// intrinsic, g++ copies every sum to another register and to memory at each step.
[[maybe_unused]] inline __attribute__((always_inline)) __m512i dot_accumulate_int8(__m512i sum,
                                                                                   __m512i x,
                                                                                   __m512i y) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(y));
  return sum;
}

// bound_j of the kTileRows rows from r0 on and the columns of the panel at j, into a tile with rows
// `stride` apart. The lane maxima of the lower bounds of those scores are merged into `maxima`,
// rows of kWidth.
inline void bound_tile(const QuantisedRows& rows, int64_t r0, const QuantisedColumns& columns,
                       int64_t j, int64_t groups, float* tile, int64_t stride, float* maxima,
                       int64_t maxima_stride) {
  const int8_t* a = rows.panels + r0 * groups * kGroupBytes;
  const uint8_t* b = columns.panels + j * groups * kGroupBytes;
  __m512i acc[kTileRows][kTileVectors];
  for (int r = 0; r < kTileRows; ++r)
    for (int v = 0; v < kTileVectors; ++v) acc[r][v] = _mm512_set1_epi32(rows.offsets[r0 + r]);
  for (int64_t g = 0; g < groups;
       ++g, a += kTileRows * kGroupBytes, b += kTileColumns * kGroupBytes) {
    const __m512i b0 = _mm512_loadu_si512(b), b1 = _mm512_loadu_si512(b + 64);
    for (int r = 0; r < kTileRows; ++r) {
      int32_t four;
      __builtin_memcpy(&four, a + r * kGroupBytes, kGroupBytes);
      const __m512i x = _mm512_set1_epi32(four);
      acc[r][0] = dot_accumulate_int8(acc[r][0], b0, x);
      acc[r][1] = dot_accumulate_int8(acc[r][1], b1, x);
    }
  }
  const Vec scale[kTileVectors] = {load(columns.scales + j), load(columns.scales + j + kWidth)};
  const Vec norm[kTileVectors] = {load(columns.norms + j), load(columns.norms + j + kWidth)};
#pragma GCC unroll 12
  for (int r = 0; r < kTileRows; ++r, tile += stride, maxima += maxima_stride) {
    const Vec c = set1(rows.margins[r0 + r]), minus_two_c = -2 * c;
    Vec lower_max = load(maxima);
    for (int v = 0; v < kTileVectors; ++v) {
      const Vec bound = fma(c, norm[v], (Vec)_mm512_cvtepi32_ps(acc[r][v]) * scale[v]);
      lower_max = max(fma(minus_two_c, norm[v], bound), lower_max);  // NaN past n: left out
      store(tile + v * kWidth, bound);
    }
    store(maxima, lower_max);
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif

#endif
