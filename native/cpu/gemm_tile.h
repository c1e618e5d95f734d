// One register tile of a product in float32, for gemm.h and gemm_few.h. Included inside an
// instruction-set pass, like simd.h.
//
// A is packed into panels of kTileRows rows, B into panels of kTileColumns columns (cpu/pack.h).
// The micro-kernel keeps one tile of C in registers and walks K once, in order.

#if defined(ML_CPU_GEMM_TILE_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_CPU_GEMM_TILE_H
#undef ML_CPU_GEMM_TILE_H
#else
#define ML_CPU_GEMM_TILE_H
#endif

#include "cpu/pack.h"
#include "cpu/prefetch.h"
#include "cpu/tuning.h"

namespace ml::cpu::ML_ISA {
namespace {

#if ML_ISA_LEVEL == 3
constexpr int kTileRows = 12;
constexpr int kTileVectors = 2;  // 24 accumulators in 32 registers
#elif ML_ISA_LEVEL == 2
constexpr int kTileRows = 6;
constexpr int kTileVectors = 2;  // 12 in 16
#else
constexpr int kTileRows = 4;
constexpr int kTileVectors = 2;  // 8 in 16
#endif
constexpr int kTileColumns = kTileVectors * kWidth;

template <bool kRound>
[[maybe_unused]] inline __attribute__((always_inline)) Vec load_operand(const float* p) {
  return kRound ? round_to_bfloat16(load(p)) : load(p);
}

// `count` elements rounded to bfloat16; `to` may be `from`.
[[maybe_unused]] inline void round_elements(float* to, const float* from, int64_t count) {
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) store(to + i, load_operand<true>(from + i));
  if (const int n = static_cast<int>(count - i))
    store_partial(to + i, round_to_bfloat16(load_partial(from + i, n)), n);
}

[[maybe_unused]] inline int64_t divide_up(int64_t n, int64_t by) { return (n + by - 1) / by; }
[[maybe_unused]] inline int64_t round_up(int64_t n, int64_t step) {
  return divide_up(n, step) * step;
}

// panel [k1 - k0, kTileColumns] of columns j0 … of B, zeros past N
[[maybe_unused]] inline void pack_columns(float* panel, const Matrix& b, int64_t k0, int64_t k1,
                                          int64_t j0, int64_t N) {
  pack<kTileColumns>(panel, {b.data, b.column_stride, b.row_stride}, j0, N, k0, k1 - k0);
  if (b.rounded) round_elements(panel, panel, (k1 - k0) * kTileColumns);
}

// panel [k1 - k0, kTileRows] of rows i0 … of A, zeros past M
[[maybe_unused]] inline void pack_rows(float* panel, const Matrix& a, int64_t k0, int64_t k1,
                                       int64_t i0, int64_t M) {
  pack<kTileRows>(panel, {a.data, a.row_stride, a.column_stride}, i0, M, k0, k1 - k0);
  if (a.rounded) round_elements(panel, panel, (k1 - k0) * kTileRows);
}

// The panels of row tiles i0 … i1 of A, one after another. Where columns of A are contiguous, as in
// a transposed matrix, each is read once for all panels: a panel alone would read a part of a cache
// line from every column.
[[maybe_unused]] inline void pack_row_tiles(float* panels, const Matrix& a, int64_t k0, int64_t k1,
                                            int64_t i0, int64_t i1, int64_t M) {
  const int64_t depth = k1 - k0;
  int64_t i = i0;
  if (a.row_stride == 1) {
    const int64_t whole = M / kTileRows < i1 ? M / kTileRows : i1;
    for (int64_t k = 0; k < depth; ++k) {
      const float* column = a.data + (k0 + k) * a.column_stride;
      // beyond the last column of A too: a prefetch never faults
      for (i = i0; i < whole; ++i)
        prefetch_l1d(column + i * kTileRows + kPackAhead * a.column_stride);
      for (i = i0; i < whole; ++i)
        __builtin_memcpy(panels + ((i - i0) * depth + k) * kTileRows, column + i * kTileRows,
                         kTileRows * sizeof(float));
    }
    if (a.rounded && i > i0) round_elements(panels, panels, (i - i0) * kTileRows * depth);
  }
  for (; i < i1; ++i) pack_rows(panels + (i - i0) * kTileRows * depth, a, k0, k1, i * kTileRows, M);
}

// The sums of a tile of C, in registers.
using RegisterTile = Vec[kTileRows][kTileVectors];

// acc[r][v] += sum over k of a[k][r] * b[k][v], where a[k][r] = a[k * kStep + r * kStride]: as it
// stands, a packed panel. Rows of b are ldb apart; kRoundB: b is rounded to bfloat16.
template <int64_t kStep = kTileRows, int64_t kStride = 1, bool kRoundB = false>
[[maybe_unused]] inline __attribute__((always_inline)) void multiply_tile(RegisterTile& acc,
                                                                          const float* a,
                                                                          const float* b,
                                                                          int64_t ldb, int64_t K) {
  for (int64_t k = 0; k < K; ++k, a += kStep, b += ldb) {
    const Vec b0 = load_operand<kRoundB>(b), b1 = load_operand<kRoundB>(b + kWidth);
    for (int r = 0; r < kTileRows; ++r) {
      const Vec x = set1(a[r * kStride]);
      acc[r][0] = fma(x, b0, acc[r][0]);
      acc[r][1] = fma(x, b1, acc[r][1]);
    }
  }
}

// One step of it, k, for the rows first <= r < end alone.
template <int64_t kStride>
[[maybe_unused]] inline __attribute__((always_inline)) void multiply_rows(
    RegisterTile& acc, const float* a, const float* b, int64_t first, int64_t end) {
  const Vec b0 = load(b), b1 = load(b + kWidth);
  for (int r = 0; r < kTileRows; ++r)
    if (r >= first && r < end) {
      const Vec x = set1(a[r * kStride]);
      acc[r][0] = fma(x, b0, acc[r][0]);
      acc[r][1] = fma(x, b1, acc[r][1]);
    }
}

// A tile at the edge of C, which has only m of its rows and n of its columns.
[[maybe_unused]] __attribute__((noinline)) void write_edge(const Product& p, const float* tile,
                                                           int64_t i0, int64_t j0, int64_t m,
                                                           int64_t n, bool first) {
  for (int64_t r = 0; r < m; ++r) {
    float* c = p.c + (i0 + r) * p.ldc + j0;
    for (int64_t j = 0; j < n; ++j) {
      float sum = tile[r * kTileColumns + j];
      if (!first || p.accumulate) sum += c[j];
      if (first && p.bias) sum += p.bias[j0 + j];
      c[j] = sum;
    }
  }
}

// A whole tile of C, ahead of its sums: with rows a page apart no hardware does it.
[[maybe_unused]] inline __attribute__((always_inline)) void prefetch_tile(const Product& p,
                                                                          int64_t i0, int64_t j0) {
  if (p.M - i0 < kTileRows || p.N - j0 < kTileColumns) return;
  const float* c = p.c + i0 * p.ldc + j0;
  for (int r = 0; r < kTileRows; ++r, c += p.ldc)
    for (int v = 0; v < kTileColumns; v += kFloatsPerLine) prefetch_for_write(c + v);
}

// Adds a tile to C, or stores it with the bias if it is the `first` block of K.
[[maybe_unused]] inline __attribute__((always_inline)) void write_tile(const Product& p,
                                                                       const RegisterTile& acc,
                                                                       int64_t i0, int64_t j0,
                                                                       bool first) {
  const int64_t m = p.M - i0, n = p.N - j0;
  if (m < kTileRows || n < kTileColumns) {
    float tile[kTileRows * kTileColumns];
    for (int r = 0; r < kTileRows; ++r)
      for (int v = 0; v < kTileVectors; ++v) store(tile + r * kTileColumns + v * kWidth, acc[r][v]);
    write_edge(p, tile, i0, j0, m < kTileRows ? m : kTileRows, n < kTileColumns ? n : kTileColumns,
               first);
    return;
  }
  float* c = p.c + i0 * p.ldc + j0;
  const bool add = !first || p.accumulate;
  Vec bias[kTileVectors] = {};
  if (first && p.bias)
    for (int v = 0; v < kTileVectors; ++v) bias[v] = load(p.bias + j0 + v * kWidth);
  for (int r = 0; r < kTileRows; ++r, c += p.ldc)
    for (int v = 0; v < kTileVectors; ++v) {
      float* at = c + v * kWidth;
      store(at, (add ? acc[r][v] + load(at) : acc[r][v]) + bias[v]);
    }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
