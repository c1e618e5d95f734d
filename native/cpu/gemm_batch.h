// Many matrix products at once, each cut into blocks that one thread takes alone: B of a block is
// packed for it. Included inside an instruction-set pass, like simd.h.

#if defined(ML_CPU_GEMM_BATCH_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_CPU_GEMM_BATCH_H
#undef ML_CPU_GEMM_BATCH_H
#else
#define ML_CPU_GEMM_BATCH_H
#endif

#include "cpu/gemm.h"

namespace ml::cpu::ML_ISA {
namespace {

// The products of one size, cut into blocks of C.
struct BatchBlocks {
  int64_t M, N, K, rows, columns, row_blocks, column_blocks;

  BatchBlocks(int64_t m, int64_t n, int64_t k) : M(m), N(n), K(k) {
    rows = M < kBatchBlockTiles * kTileRows ? M : kBatchBlockTiles * kTileRows;
    columns = N < kBatchBlockColumns ? N : kBatchBlockColumns;
    row_blocks = divide_up(M, rows);
    column_blocks = divide_up(N, columns);
  }
  int64_t count() const { return row_blocks * column_blocks; }
  // Floats of one thread's workspace: for few rows A and a panel of B, else panels of both.
  int64_t workspace() const {
    const int64_t few = (K < kFewBlockK ? K : kFewBlockK) * (kFewRows + kTileColumns),
                  panels = (K < kMaxBlockK ? K : kMaxBlockK) *
                           (round_up(rows, kTileRows) + round_up(columns, kTileColumns));
    return few > panels ? few : panels;
  }
  // The block `u` of a product.
  Product block(Product p, int64_t u) const {
    const int64_t i = u / column_blocks * rows, j = u % column_blocks * columns;
    p.a.data += i * p.a.row_stride;
    p.b.data += j * p.b.column_stride;
    p.c += i * p.ldc + j;
    p.M = M - i < rows ? M - i : rows;
    p.N = N - j < columns ? N - j : columns;
    return p;
  }
};

// A block of the products, by the calling thread. `few`: no block has more rows than kFewRows.
[[maybe_unused]] inline void multiply_alone(const Product& p, float* workspace, bool few) {
  const bool dots = p.a.column_stride == 1 && p.b.row_stride == 1 && !p.a.rounded;
  if (p.K == 0 || (dots && (p.M <= kFewRows || p.N <= kFewColumns)))
    return multiply_dots(p, 0, p.M, 0, p.N);
  if (few && p.b.column_stride == 1) {
    for (int64_t k = 0; k < p.K; k += kFewBlockK) {
      const Product part = block_of(p, k, kFewBlockK);
      for (int64_t i = 0; i < p.M; i += kTileRows)
        pack_rows(workspace + i * part.K, part.a, 0, part.K, i, p.M);
      multiply_unpacked(part, workspace, workspace + kFewRows * part.K, 0,
                        divide_up(p.N, kTileColumns));
    }
    return;
  }
  const int64_t row_tiles = divide_up(p.M, kTileRows), panels = divide_up(p.N, kTileColumns);
  for (int64_t k0 = 0; k0 < p.K; k0 += kMaxBlockK) {
    const int64_t k1 = p.K - k0 < kMaxBlockK ? p.K : k0 + kMaxBlockK, depth = k1 - k0;
    float* packed_b = workspace + row_tiles * kTileRows * depth;
    for (int64_t j = 0; j < panels; ++j)
      pack_columns(packed_b + j * kTileColumns * depth, p.b, k0, k1, j * kTileColumns, p.N);
    multiply_block(p, packed_b, workspace, 0, row_tiles, 0, panels, k0, k1);
  }
}

// Products of any sizes over the threads of the context.
[[maybe_unused]] void run_products(KernelContext& ctx, const Product* products, int64_t count) {
  int64_t* first = ctx.scratch<int64_t>(count + 1);  // block of each product
  int64_t size = 0, terms = 1, filled = 0, last = 0;
  first[0] = 0;
  for (int64_t i = 0; i < count; ++i) {
    const Product& p = products[i];
    first[i + 1] = first[i];
    if (p.M == 0 || p.N == 0) continue;
    const BatchBlocks blocks(p.M, p.N, p.K);
    first[i + 1] += blocks.count();
    const int64_t work = blocks.rows * blocks.columns * (p.K < 1 ? 1 : p.K);
    if (work > terms) terms = work;
    if (blocks.workspace() > size) size = blocks.workspace();
    ++filled;
    last = i;
  }
  if (filled == 1) return run_product(ctx, products[last]);
  float* workspaces = ctx.scratch<float>(ctx.threads() * size);
  const int64_t grain = terms < kBatchGrain ? kBatchGrain / terms : 1;
  ctx.parallel_for(first[count], grain, [&](int64_t begin, int64_t end, int worker) {
    int64_t i = 0, high = count;  // first[i] <= begin < first[high]
    while (high - i > 1) {
      const int64_t middle = i + (high - i) / 2;
      if (first[middle] <= begin)
        i = middle;
      else
        high = middle;
    }
    for (int64_t u = begin; u < end; ++u) {
      while (first[i + 1] <= u) ++i;
      const BatchBlocks blocks(products[i].M, products[i].N, products[i].K);
      multiply_alone(blocks.block(products[i], u - first[i]), workspaces + worker * size,
                     blocks.rows <= kFewRows);
    }
  });
}

// Products of one size over the threads of the context, each with its sum.
[[maybe_unused]] void run_batch(KernelContext& ctx, const Product& first, const Loops<3>& kept,
                                const Loops<2>& summed) {
  const int64_t products = kept.count(), sums = summed.count();
  if (first.M == 0 || first.N == 0 || products == 0) return;
  if (products == 1 && sums == 1) return run_product(ctx, first);
  const BatchBlocks blocks(first.M, first.N, first.K);
  const int64_t size = blocks.workspace();
  float* workspaces = ctx.scratch<float>(ctx.threads() * size);
  const int64_t terms = blocks.rows * blocks.columns * (first.K < 1 ? 1 : first.K) * sums;
  const int64_t grain = terms < kBatchGrain ? kBatchGrain / terms : 1;
  ctx.parallel_for(products * blocks.count(), grain, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t i = u / blocks.count();
      for (int64_t s = 0; s < sums; ++s) {
        Product p = first;
        p.c += kept.offset(0, i);
        p.a.data += kept.offset(1, i) + summed.offset(0, s);
        p.b.data += kept.offset(2, i) + summed.offset(1, s);
        p.accumulate = first.accumulate || s > 0;
        multiply_alone(blocks.block(p, u % blocks.count()), workspaces + worker * size,
                       blocks.rows <= kFewRows);
      }
    }
  });
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
