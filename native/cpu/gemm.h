// Matrix products in float32: C[M, N] = A[M, K] B[K, N] (+ bias) (+ C), each matrix by strides of
// its rows and columns, so that transposes are the same code. Included inside an instruction-set
// pass, like simd.h.
//
// B is packed into panels of kTileColumns columns, A into panels of kTileRows rows; the
// micro-kernel keeps one tile of C in registers and walks K once, in order. K is cut into blocks,
// added one after another, so the sum of an element has one order whatever the number of threads
// (Goto and van de Geijn 2008); a part of C takes all blocks before the next part begins. Few rows
// or columns go to cpu/gemm_few.h, which packs no B.

#if defined(ML_CPU_GEMM_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_CPU_GEMM_H
#undef ML_CPU_GEMM_H
#else
#define ML_CPU_GEMM_H
#endif

#include "cpu/pack.h"

namespace ml::cpu::ML_ISA {
namespace {

#if ML_ISA_LEVEL == 3
constexpr int kTileRows = 12;
constexpr int kTileVectors = 2;  // 24 accumulators of 32 registers
#elif ML_ISA_LEVEL == 2
constexpr int kTileRows = 6;
constexpr int kTileVectors = 2;  // 12 of 16
#else
constexpr int kTileRows = 4;
constexpr int kTileVectors = 2;  // 8 of 16
#endif
constexpr int kTileColumns = kTileVectors * kWidth;
// a panel of B and one of A then lie in a first-level cache together
constexpr int64_t kMostBlockK = 320;
// of rows: their block of A and their part of C stay in a small second-level cache
constexpr int64_t kMostBlockTiles = 4;
// numbers of B, 8 MiB: a third-level cache has them
constexpr int64_t kMostPacked = int64_t{2} << 20;

struct Matrix {
  const float* data;
  int64_t row, column;  // strides in elements
};

struct Product {
  float* c;
  int64_t ldc;
  Matrix a, b;
  int64_t M, N, K;
  const float* bias;  // [N], or nullptr
  bool accumulate;
};

[[maybe_unused]] inline int64_t divide_up(int64_t n, int64_t by) { return (n + by - 1) / by; }
[[maybe_unused]] inline int64_t round_up(int64_t n, int64_t step) {
  return divide_up(n, step) * step;
}

// panel [depth, kTileColumns] of columns j0 … of B, zeros past N
[[maybe_unused]] inline void pack_columns(float* panel, const Matrix& b, int64_t k0, int64_t k1,
                                          int64_t j0, int64_t N) {
  pack<kTileColumns>(panel, {b.data, b.column, b.row}, j0, N, k0, k1 - k0);
}

// panel [depth, kTileRows] of rows i0 … of A, zeros past M
[[maybe_unused]] inline void pack_rows(float* panel, const Matrix& a, int64_t k0, int64_t k1,
                                       int64_t i0, int64_t M) {
  pack<kTileRows>(panel, {a.data, a.row, a.column}, i0, M, k0, k1 - k0);
}

// One tile: acc[r][v] += sum over k of a[k][r] * b[k][v]. a packed as above; rows of b are ldb
// apart.
using Tile = Vec[kTileRows][kTileVectors];

[[maybe_unused]] inline __attribute__((always_inline)) void multiply_tile(Tile& acc, const float* a,
                                                                          const float* b,
                                                                          int64_t ldb, int64_t K) {
  for (int64_t k = 0; k < K; ++k, a += kTileRows, b += ldb) {
    const Vec b0 = load(b), b1 = load(b + kWidth);
    for (int r = 0; r < kTileRows; ++r) {
      const Vec x = set1(a[r]);
      acc[r][0] = fma(x, b0, acc[r][0]);
      acc[r][1] = fma(x, b1, acc[r][1]);
    }
  }
}

// The edge of C: a tile of which only m rows and n columns are there.
[[maybe_unused]] __attribute__((noinline)) void write_part(const Product& p, const float* tile,
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

// Adds a tile to C, or stores it with the bias where it is the first of its sum.
[[maybe_unused]] inline __attribute__((always_inline)) void write_tile(const Product& p,
                                                                       const Tile& acc, int64_t i0,
                                                                       int64_t j0, bool first) {
  const int64_t m = p.M - i0, n = p.N - j0;
  if (m < kTileRows || n < kTileColumns) {
    float tile[kTileRows * kTileColumns];
    for (int r = 0; r < kTileRows; ++r)
      for (int v = 0; v < kTileVectors; ++v) store(tile + r * kTileColumns + v * kWidth, acc[r][v]);
    write_part(p, tile, i0, j0, m < kTileRows ? m : kTileRows, n < kTileColumns ? n : kTileColumns,
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

// Row tiles i0 … i1 of C against column panels j0 … j1 of the packed B, for k0 … k1. panel_a: room
// for the rows' panels.
[[maybe_unused]] inline void multiply_block(const Product& p, const float* packed_b, float* panel_a,
                                            int64_t i0, int64_t i1, int64_t j0, int64_t j1,
                                            int64_t k0, int64_t k1) {
  const int64_t depth = k1 - k0;
  for (int64_t i = i0; i < i1; ++i)
    pack_rows(panel_a + (i - i0) * kTileRows * depth, p.a, k0, k1, i * kTileRows, p.M);
  for (int64_t j = j0; j < j1; ++j) {
    const float* b = packed_b + j * kTileColumns * depth;
    for (int64_t i = i0; i < i1; ++i) {
      Tile acc{};
      multiply_tile(acc, panel_a + (i - i0) * kTileRows * depth, b, kTileColumns, depth);
      write_tile(p, acc, i * kTileRows, j * kTileColumns, k0 == 0);
    }
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#include "cpu/gemm_few.h"

namespace ml::cpu::ML_ISA {
namespace {

// How C is cut: into `row_blocks` times `column_blocks` pieces of nearly the same size, a few for
// each thread.
struct Cut {
  int64_t row_tiles, column_panels, row_blocks, column_blocks;

  Cut(const Product& p, int threads)
      : row_tiles(divide_up(p.M, kTileRows)), column_panels(divide_up(p.N, kTileColumns)) {
    row_blocks = round_up(divide_up(row_tiles, kMostBlockTiles), threads);
    if (row_blocks > row_tiles) row_blocks = row_tiles;
    column_blocks = divide_up(4 * threads, row_blocks);
    if (column_blocks > column_panels) column_blocks = column_panels;
  }
  int64_t most_tiles() const { return divide_up(row_tiles, row_blocks); }
};

// The whole product over the threads of the context.
[[maybe_unused]] void multiply(Context& ctx, const Product& p) {
  if (p.M == 0 || p.N == 0) return;
  if (multiply_few(ctx, p)) return;
  const int64_t blocks_k = divide_up(p.K, kMostBlockK);
  const int64_t depth = divide_up(p.K, blocks_k);
  const Cut cut(p, ctx.threads());
  // Several blocks of K are packed at a time, so that a part of C takes them one after another
  // while it is in the cache.
  const int64_t block = cut.column_panels * kTileColumns * depth;
  const int64_t most = kMostPacked / block,
                packed = most < 1 ? 1 : (most < blocks_k ? most : blocks_k);
  float* packed_b = ctx.scratch<float>(packed * block);
  const int64_t room = cut.most_tiles() * kTileRows * depth;
  float* panels_a = ctx.scratch<float>(ctx.threads() * room);
  const auto end_of = [&](int64_t k) { return k + depth < p.K ? k + depth : p.K; };
  for (int64_t k0 = 0; k0 < p.K; k0 += packed * depth) {
    const int64_t left = divide_up(p.K - k0, depth), blocks = left < packed ? left : packed;
    ctx.parallel_for(
        blocks * cut.column_panels, divide_up(blocks * cut.column_panels, 4 * ctx.threads()),
        [&](int64_t begin, int64_t end, int) {
          for (int64_t u = begin; u < end; ++u) {
            const int64_t k = k0 + u / cut.column_panels * depth, j = u % cut.column_panels;
            pack_columns(
                packed_b + u / cut.column_panels * block + j * (end_of(k) - k) * kTileColumns, p.b,
                k, end_of(k), j * kTileColumns, p.N);
          }
        });
    ctx.parallel_for(
        cut.row_blocks * cut.column_blocks, 1, [&](int64_t begin, int64_t end, int worker) {
          for (int64_t u = begin; u < end; ++u) {
            const int64_t i = u / cut.column_blocks, j = u % cut.column_blocks;
            for (int64_t b = 0; b < blocks; ++b) {
              const int64_t k = k0 + b * depth;
              multiply_block(p, packed_b + b * block, panels_a + worker * room,
                             i * cut.row_tiles / cut.row_blocks,
                             (i + 1) * cut.row_tiles / cut.row_blocks,
                             j * cut.column_panels / cut.column_blocks,
                             (j + 1) * cut.column_panels / cut.column_blocks, k, end_of(k));
            }
          }
        });
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
