// Products with few rows or few columns: B is not packed but read once as it is stored. A long K is
// cut into blocks, whose sums are added one after another: a single float32 sum is off by 1 % after
// a million terms. Included inside an instruction-set pass, like simd.h.

#if defined(ML_CPU_GEMM_FEW_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_CPU_GEMM_FEW_H
#undef ML_CPU_GEMM_FEW_H
#else
#define ML_CPU_GEMM_FEW_H
#endif

#include "cpu/gemm_tile.h"
#include "cpu/prefetch.h"
#include "cpu/tuning.h"

namespace ml::cpu::ML_ISA {
namespace {

constexpr int64_t kFewRows = kFewRowTiles * kTileRows;
// Terms of one float32 sum; of a dot product every lane has a sum of its own.
constexpr int64_t kFewBlockK = 1024;
constexpr int64_t kDotBlockK = 8192;

// The terms k … k + length of a product, added to those before them.
[[maybe_unused]] inline Product block_of(const Product& p, int64_t k, int64_t length) {
  Product block = p;
  block.a.data += k * p.a.column_stride;
  block.b.data += k * p.b.row_stride;
  block.K = p.K - k < length ? p.K - k : length;
  if (k == 0) return block;
  block.bias = nullptr;
  block.accumulate = true;
  return block;
}

// Columns of a block of dot products: enough sums in registers to hide the latency of an addition.
template <int kRows>
constexpr int kDotColumns = kRows == 1 ? 4 : 2;

// Which operands of dot products are rounded to bfloat16 as they are loaded.
enum class Rounded { none, a, b };

// c[r][j] of kRows rows and kColumns columns as dot products of contiguous rows of A and columns of
// B. K is walked in whole vectors, the remainder last; the columns of a later block are prefetched.
template <int kRows, int kColumns, Rounded kRounded>
[[maybe_unused]] inline void dot_block(const Product& p, int64_t i, int64_t j) {
  const float* a = p.a.data + i * p.a.row_stride;
  const float* b = p.b.data + j * p.b.column_stride;
  Vec acc[kRows][kColumns] = {};
  const auto step = [&](int64_t k, auto&& read) __attribute__((always_inline)) {
    Vec x[kColumns];
    for (int v = 0; v < kColumns; ++v) {
      x[v] = read(b + v * p.b.column_stride + k);
      if constexpr (kRounded == Rounded::b) x[v] = round_to_bfloat16(x[v]);
    }
    for (int r = 0; r < kRows; ++r) {
      Vec y = read(a + r * p.a.row_stride + k);
      if constexpr (kRounded == Rounded::a) y = round_to_bfloat16(y);
      for (int v = 0; v < kColumns; ++v) acc[r][v] = fma(y, x[v], acc[r][v]);
    }
  };
  // floats; if K is 0 nothing is read, and the stride of columns may be 0
  const int64_t block = p.K == 0 ? 1 : kColumns * p.b.column_stride;
  const float* ahead =
      b + divide_up(kDotPrefetchBytes / static_cast<int64_t>(sizeof(float)), block) * block;
  const auto vector = [](const float* at) __attribute__((always_inline)) { return load(at); };
  int64_t k = 0;
  for (; k + kFloatsPerLine <= p.K; k += kFloatsPerLine) {
    for (int v = 0; v < kColumns; ++v) prefetch_l1d(ahead + v * p.b.column_stride + k);
    for (int i = 0; i < kFloatsPerLine; i += kWidth) step(k + i, vector);
  }
  for (; k + kWidth <= p.K; k += kWidth) step(k, vector);
  if (k < p.K)
    step(k, [n = static_cast<int>(p.K - k)](const float* at) { return load_partial(at, n); });
  for (int r = 0; r < kRows; ++r) {
    float* c = p.c + (i + r) * p.ldc + j;
    for (int v = 0; v < kColumns; ++v)
      c[v] = reduce_add(acc[r][v]) + (p.accumulate ? c[v] : 0.0f) + (p.bias ? p.bias[j + v] : 0.0f);
  }
}

template <int kRows, Rounded kRounded>
[[maybe_unused]] inline void dot_columns(const Product& p, int64_t i, int64_t j0, int64_t j1) {
  constexpr int kColumns = kDotColumns<kRows>;
  int64_t j = j0;
  for (; j + kColumns <= j1; j += kColumns) dot_block<kRows, kColumns, kRounded>(p, i, j);
  for (; j < j1; ++j) dot_block<kRows, 1, kRounded>(p, i, j);
}

// Rows i0 … i1, columns j0 … j1 of C, where rows of A and columns of B are contiguous.
template <Rounded kRounded = Rounded::none>
[[maybe_unused]] inline void multiply_dots(const Product& p, int64_t i0, int64_t i1, int64_t j0,
                                           int64_t j1) {
  if (p.K > kDotBlockK) {
    for (int64_t k = 0; k < p.K; k += kDotBlockK)
      multiply_dots<kRounded>(block_of(p, k, kDotBlockK), i0, i1, j0, j1);
    return;
  }
  int64_t i = i0;
  for (; i + 4 <= i1; i += 4) dot_columns<4, kRounded>(p, i, j0, j1);
  switch (i1 - i) {
    case 3: return dot_columns<3, kRounded>(p, i, j0, j1);
    case 2: return dot_columns<2, kRounded>(p, i, j0, j1);
    case 1: return dot_columns<1, kRounded>(p, i, j0, j1);
  }
}

// Column panels j0 … j1 of C, all rows, where rows of B are contiguous. panels_a: A, packed.
// panel_b: workspace for the last panel of B, which may be narrower.
[[maybe_unused]] inline void multiply_unpacked(const Product& p, const float* panels_a,
                                               float* panel_b, int64_t j0, int64_t j1) {
  for (int64_t j = j0 * kTileColumns; j < j1 * kTileColumns; j += kTileColumns) {
    const float* b = p.b.data + j;
    int64_t ldb = p.b.row_stride;
    if (p.N - j < kTileColumns) {
      pack_columns(panel_b, p.b, 0, p.K, j, p.N);
      b = panel_b;
      ldb = kTileColumns;
    }
    for (int64_t k = 0; k < p.K; k += kFewBlockK) {
      const Product block = block_of(p, k, kFewBlockK);
      for (int64_t i = 0; i < p.M; i += kTileRows) {
        RegisterTile acc{};
        const float* a = panels_a + i * p.K + k * kTileRows;
        if (p.b.rounded)
          multiply_tile<kTileRows, 1, true>(acc, a, b + k * ldb, ldb, block.K);
        else
          multiply_tile(acc, a, b + k * ldb, ldb, block.K);
        write_tile(block, acc, i, j, true);
      }
    }
  }
}

// The product as dot products, of few rows of A or few columns of B: those are rounded first, and
// the other operand as it is loaded.
[[maybe_unused]] inline void multiply_few_dots(KernelContext& ctx, const Product& p) {
  const bool few_rows = p.M <= kFewRows;
  const auto run = [&]<Rounded kRounded>(const Product& of) {
    ctx.parallel_for(few_rows ? p.N : p.M, kDotGrain, [&](int64_t begin, int64_t end, int) {
      few_rows ? multiply_dots<kRounded>(of, 0, p.M, begin, end)
               : multiply_dots<kRounded>(of, begin, end, 0, p.N);
    });
  };
  if (!p.a.rounded) return run.template operator()<Rounded::none>(p);
  Product half = p;
  const int64_t few = few_rows ? p.M : p.N;
  float* rounded = ctx.scratch<float>(few * p.K);
  const float* from = few_rows ? p.a.data : p.b.data;
  const int64_t stride = few_rows ? p.a.row_stride : p.b.column_stride;
  for (int64_t i = 0; i < few; ++i) round_elements(rounded + i * p.K, from + i * stride, p.K);
  if (few_rows) {
    half.a = {.data = rounded, .row_stride = p.K, .column_stride = 1};
    run.template operator()<Rounded::b>(half);
  } else {
    half.b = {.data = rounded, .row_stride = 1, .column_stride = p.K};
    run.template operator()<Rounded::a>(half);
  }
}

// The product, if it has few rows or columns; else false, and nothing is written.
[[maybe_unused]] inline bool multiply_few(KernelContext& ctx, const Product& p) {
  if (p.K == 0) {
    ctx.parallel_for(p.N, kDotGrain, [&](int64_t begin, int64_t end, int) {
      multiply_dots(p, 0, p.M, begin, end);
    });
    return true;
  }
  const bool dots = p.a.column_stride == 1 && p.b.row_stride == 1;
  if (dots && (p.M <= kFewRows || p.N <= kFewColumns)) {
    multiply_few_dots(ctx, p);
    return true;
  }
  if (p.M > kFewRows || p.b.column_stride != 1) return false;
  const int64_t rows = round_up(p.M, kTileRows);
  float* panels_a = ctx.scratch<float>(rows * p.K);
  float* panel_b = ctx.scratch<float>(p.K * kTileColumns);
  for (int64_t i = 0; i < rows; i += kTileRows) pack_rows(panels_a + i * p.K, p.a, 0, p.K, i, p.M);
  // Only the last panel is narrower, so only one thread writes panel_b.
  ctx.parallel_for(divide_up(p.N, kTileColumns), kUnpackedPanelGrain,
                   [&](int64_t begin, int64_t end, int) {
                     multiply_unpacked(p, panels_a, panel_b, begin, end);
                   });
  return true;
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
