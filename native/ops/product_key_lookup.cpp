#include "ops/product_key_lookup.h"

#ifdef ML_ISA
#include "cpu/gemm.h"
#include "cpu/tuning.h"
#include "ops/product_key_half_lists_cpu.h"
#include "ops/product_key_screening_cpu.h"

namespace ml::cpu::ML_ISA {
namespace {

// Stores a tile of the product into its rows of the block's scores.
inline __attribute__((always_inline)) void store_tile(const RegisterTile& acc, float* scores,
                                                      int64_t stride) {
  for (int r = 0; r < kTileRows; ++r)
    for (int v = 0; v < kTileVectors; ++v) store(scores + r * stride + v * kWidth, acc[r][v]);
}

// Its lane maxima into those of its rows. Scores are read back from L1d: the registers belong to
// the product. first: the maxima are not read.
inline void add_tile_maxima(const float* scores, int64_t scores_stride, float* maxima,
                            int64_t maxima_stride, bool first) {
  for (int r = 0; r < kTileRows; ++r, scores += scores_stride, maxima += maxima_stride) {
    const Vec tile_maxima = max(load(scores), load(scores + kWidth));
    store(maxima, first ? tile_maxima : max(tile_maxima, load(maxima)));
  }
}

// Scores of one block of tokens against one half of a head's keys, into workspace.scores. Columns
// past n are -Inf. hp: h * 2 + p.
inline void score_block(const ProductKeyLookup& a, const LookupWorkspace& workspace,
                        const LookupPlan& plan, const float* packed_keys, int64_t t0, int64_t rows,
                        int64_t hp) {
  const int64_t T = a.query.dim(0), H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2);
  const int64_t columns = plan.columns, vectors = plan.maxima_vectors;
  const Matrix query{
      .data = a.query.as<float>() + hp * d, .row_stride = H * 2 * d, .column_stride = 1};
  for (int64_t i = 0; i < rows; i += kTileRows)
    pack_rows(workspace.packed_query + i * d, query, 0, d, t0 + i, T);
  for (int64_t j = 0, v = 0; j < columns; j += kTileColumns, v = v + 1 == vectors ? 0 : v + 1)
    for (int64_t i = 0; i < rows; i += kTileRows) {
      float* scores = workspace.scores + i * plan.stride;
      RegisterTile acc{};
      multiply_tile(acc, workspace.packed_query + i * d, packed_keys + j * d, kTileColumns, d);
      store_tile(acc, scores + j, plan.stride);
      for (int64_t c = n; c < j + kTileColumns; ++c)
        for (int r = 0; r < kTileRows; ++r) scores[r * plan.stride + c] = -__builtin_inff();
      if (vectors)
        add_tile_maxima(scores + j, plan.stride, workspace.lane_maxima + (i * vectors + v) * kWidth,
                        vectors * kWidth, j < vectors * kTileColumns);
    }
}

// The half lists of a block of tokens in half p of head h, from its scores.
inline void select_block(const ProductKeyLookup& a, const LookupWorkspace& workspace,
                         const LookupPlan& plan, const float* packed_keys, int64_t t0, int64_t rows,
                         int64_t h, int p, uint8_t* nan) {
  score_block(a, workspace, plan, packed_keys, t0, rows, h * 2 + p);
  block_thresholds(workspace, plan, rows);
  for (int64_t r = 0; r < rows; ++r)
    select_half(a, workspace, plan, h, p, r, workspace.scores + r * plan.stride, plan.columns,
                workspace.thresholds[r], nan[r]);
}

// Few tokens: keys are not packed; all threads together read each once.
void lookup_few(KernelContext& ctx, const ProductKeyLookup& a, const LookupPlan& plan,
                const LookupWorkspace* workspaces) {
  const int64_t T = a.query.dim(0), H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2);
  float* scores = ctx.scratch<float>(T * H * 2 * n);
  ctx.parallel_for(2 * H * divide_up(n, kKeyGrain), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t hp = u % (2 * H), j0 = u / (2 * H) * kKeyGrain,
                    j1 = j0 + kKeyGrain < n ? j0 + kKeyGrain : n;
      const Product product{
          .c = scores + hp * n,
          .ldc = 2 * H * n,
          .a = {.data = a.query.as<float>() + hp * d, .row_stride = 2 * H * d, .column_stride = 1},
          .b = {.data = a.keys.as<float>() + hp * n * d, .row_stride = 1, .column_stride = d},
          .M = T,
          .N = n,
          .K = d,
          .bias = nullptr,
          .accumulate = false};
      multiply_dots(product, 0, T, j0, j1);
    }
  });
  ctx.parallel_for(T * H, 1, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t th = begin; th < end; ++th) {
      uint8_t nan = 0;
      for (int p = 0; p < 2; ++p)
        select_half(a, workspaces[worker], plan, th % H, p, 0, scores + (th * 2 + p) * n, n,
                    __builtin_nanf(""), nan);
      combine_row(a, workspaces[worker], plan, th, 0, nan);
    }
  });
}

// All scores in float32, from packed keys.
void lookup_packed(KernelContext& ctx, const ProductKeyLookup& a, const LookupPlan& plan,
                   const LookupWorkspace* workspaces) {
  const int64_t H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2);
  float* packed = ctx.scratch<float>(2 * H * plan.columns * d);
  const int64_t panels = plan.columns / kTileColumns;
  ctx.parallel_for(2 * H * panels, kPackGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t hp = u / panels, j = u % panels * kTileColumns;
      const Matrix keys{
          .data = a.keys.as<float>() + hp * n * d, .row_stride = 1, .column_stride = d};
      pack_columns(packed + hp * plan.columns * d + j * d, keys, 0, d, j, n);
    }
  });
  lookup_blocks(ctx, a, plan, workspaces,
                [&](int worker, int64_t t0, int64_t rows, int64_t h, int p, uint8_t* nan) {
                  select_block(a, workspaces[worker], plan, packed + (h * 2 + p) * plan.columns * d,
                               t0, rows, h, p, nan);
                });
}

void lookup(KernelContext& ctx, const ProductKeyLookup& a) {
  const int64_t T = a.query.dim(0), H = a.query.dim(1), d = a.query.dim(3);
  if (T == 0 || H == 0) return;
  const LookupPlan plan = make_plan(ctx, a);
  const LookupWorkspace* workspaces = make_workspaces(ctx, plan, d);
  if (T <= kFewRows) return lookup_few(ctx, a, plan, workspaces);
#if ML_ISA_LEVEL == 3
  const int64_t columns = d < kLongScreenedRow ? kMinScreenedColumns : kMinScreenedColumnsLongRows;
  if (isa() == Isa::avx512vnni && plan.maxima_vectors && a.keys.dim(2) >= columns &&
      d <= kMaxScreenedDepth && lookup_screened(ctx, a, plan, workspaces))
    return;
#endif
  lookup_packed(ctx, a, plan, workspaces);
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#define ML_ISA_SOURCE "ops/product_key_lookup.cpp"
#include "cpu/foreach_isa.h"
#include "cpu/widen.h"

namespace ml::cpu {

void product_key_lookup(KernelContext& ctx, const ProductKeyLookup& args) {
  ProductKeyLookup a = args;
  a.query = product_operand(ctx, args.query, a.compute);
  a.keys = product_operand(ctx, args.keys, a.compute);
  ML_DISPATCH(lookup)(ctx, a);
}

}  // namespace ml::cpu
#endif
