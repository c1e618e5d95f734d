// One matrix product (cpu/matrix_product.h). Included inside an instruction-set pass, like simd.h.
//
// K is cut into blocks, added one after another, so the sum of an element has one order whatever
// the number of threads (Goto and van de Geijn 2008). A block of C takes all blocks of K before the
// next begins. Few rows or columns go to cpu/gemm_few.h, which does not pack B.

#if defined(ML_CPU_GEMM_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_CPU_GEMM_H
#undef ML_CPU_GEMM_H
#else
#define ML_CPU_GEMM_H
#endif

#include "cpu/gemm_few.h"
#include "cpu/gemm_tile.h"
#include "cpu/tuning.h"

namespace ml::cpu::ML_ISA {
namespace {

// Row tiles i0 … i1 of C against column panels j0 … j1 of the packed B, for k0 … k1. panel_a:
// workspace for the panels of the rows.
[[maybe_unused]] inline void multiply_block(const Product& p, const float* packed_b, float* panel_a,
                                            int64_t i0, int64_t i1, int64_t j0, int64_t j1,
                                            int64_t k0, int64_t k1) {
  const int64_t depth = k1 - k0;
  pack_row_tiles(panel_a, p.a, k0, k1, i0, i1, p.M);
  for (int64_t j = j0; j < j1; ++j) {
    const float* b = packed_b + j * kTileColumns * depth;
    for (int64_t i = i0; i < i1; ++i) {
      RegisterTile acc{};
      prefetch_tile(p, i * kTileRows, j * kTileColumns);
      multiply_tile(acc, panel_a + (i - i0) * kTileRows * depth, b, kTileColumns, depth);
      write_tile(p, acc, i * kTileRows, j * kTileColumns, k0 == 0);
    }
  }
}

// C is cut into row_blocks times column_blocks of nearly the same size, a few for each thread.
struct BlockGrid {
  int64_t row_tiles, column_panels, row_blocks, column_blocks;

  BlockGrid(const Product& p, int threads)
      : row_tiles(divide_up(p.M, kTileRows)), column_panels(divide_up(p.N, kTileColumns)) {
    row_blocks = round_up(divide_up(row_tiles, kMaxBlockTiles), threads);
    if (row_blocks > row_tiles) row_blocks = row_tiles;
    // one thread needs no tasks to share, and each would pack its rows of A again
    column_blocks = threads == 1 ? 1 : divide_up(kGemmTasksPerThread * threads, row_blocks);
    if (column_blocks > column_panels) column_blocks = column_panels;
  }
  int64_t max_block_tiles() const { return divide_up(row_tiles, row_blocks); }
};

// The whole product over the threads of the context.
[[maybe_unused]] void run_product(KernelContext& ctx, const Product& p) {
  if (p.M == 0 || p.N == 0) return;
  if (multiply_few(ctx, p)) return;
  const int64_t blocks_k = divide_up(p.K, kMaxBlockK);
  const int64_t depth = divide_up(p.K, blocks_k);
  const BlockGrid grid(p, ctx.threads());
  // Several blocks of K are packed at a time, so that a block of C takes them one after another
  // while it is in the cache.
  const int64_t block = grid.column_panels * kTileColumns * depth;  // floats
  const int64_t fit = (p.K > p.M ? kMaxPackedFloatsLongK : kMaxPackedFloats) / block,
                packed = fit < 1 ? 1 : (fit < blocks_k ? fit : blocks_k);
  float* packed_b = ctx.scratch<float>(packed * block);
  const int64_t panel_floats = grid.max_block_tiles() * kTileRows * depth;
  float* panels_a = ctx.scratch<float>(ctx.threads() * panel_floats);
  const auto end_of = [&](int64_t k) { return k + depth < p.K ? k + depth : p.K; };
  for (int64_t k0 = 0; k0 < p.K; k0 += packed * depth) {
    const int64_t left = divide_up(p.K - k0, depth), blocks = left < packed ? left : packed;
    ctx.parallel_for(blocks * grid.column_panels,
                     divide_up(blocks * grid.column_panels, kGemmTasksPerThread * ctx.threads()),
                     [&](int64_t begin, int64_t end, int) {
                       for (int64_t u = begin; u < end; ++u) {
                         const int64_t k = k0 + u / grid.column_panels * depth,
                                       j = u % grid.column_panels;
                         pack_columns(packed_b + u / grid.column_panels * block +
                                          j * (end_of(k) - k) * kTileColumns,
                                      p.b, k, end_of(k), j * kTileColumns, p.N);
                       }
                     });
    ctx.parallel_for(
        grid.row_blocks * grid.column_blocks, 1, [&](int64_t begin, int64_t end, int worker) {
          for (int64_t u = begin; u < end; ++u) {
            const int64_t i = u / grid.column_blocks, j = u % grid.column_blocks;
            for (int64_t b = 0; b < blocks; ++b) {
              const int64_t k = k0 + b * depth;
              multiply_block(p, packed_b + b * block, panels_a + worker * panel_floats,
                             i * grid.row_tiles / grid.row_blocks,
                             (i + 1) * grid.row_tiles / grid.row_blocks,
                             j * grid.column_panels / grid.column_blocks,
                             (j + 1) * grid.column_panels / grid.column_blocks, k, end_of(k));
            }
          }
        });
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
