// Int8 screening of the product-key lookup (docs/decisions/0006): upper bounds of a block's scores
// from int8 products, and only what may be among the k largest is multiplied in float32. Included
// inside an instruction-set pass; there is only that of AVX-512 with VNNI.

#if defined(ML_OPS_PRODUCT_KEY_SCREENING_CPU_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_OPS_PRODUCT_KEY_SCREENING_CPU_H
#undef ML_OPS_PRODUCT_KEY_SCREENING_CPU_H
#else
#define ML_OPS_PRODUCT_KEY_SCREENING_CPU_H
#endif

#include "cpu/screen.h"
#include "ops/product_key_half_lists_cpu.h"

#if ML_ISA_LEVEL == 3

namespace ml::cpu::ML_ISA {
namespace {

// Of one thread.
struct ScreeningState {
  QuantisedRows rows;  // the queries of a block
  int64_t head;        // of its last block
  int64_t failed[2];   // rows of that block, in each half, that bounds did not narrow down
};

// Upper bounds of the scores of a block's `count` rows, into workspace.scores, and thresholds that
// k lower bounds of each row reach.
inline void bound_block(const LookupWorkspace& workspace, const LookupPlan& plan,
                        const QuantisedRows& rows, const QuantisedColumns& keys, int64_t count,
                        int64_t d) {
  const int64_t vectors = plan.maxima_vectors, groups = groups_of(d);
  for (int64_t i = 0; i < count * vectors * kWidth; i += kWidth)
    store(workspace.lane_maxima + i, set1(-__builtin_inff()));
  for (int64_t j = 0, v = 0; j < plan.columns; j += kTileColumns, v = v + 1 == vectors ? 0 : v + 1)
    for (int64_t r = 0; r < count; r += kTileRows)
      bound_tile(rows, r, keys, j, groups, workspace.scores + r * plan.stride + j, plan.stride,
                 workspace.lane_maxima + (r * vectors + v) * kWidth, vectors * kWidth);
  block_thresholds(workspace, plan, count);
}

// The half lists of a block of tokens in one half of a head, from bounds of its scores, or from all
// scores where bounds don't help.
inline void screen_block(const ProductKeyLookup& a, const LookupWorkspace& workspace,
                         const LookupPlan& plan, ScreeningState& state,
                         const QuantisedColumns& int8_keys, const ColumnBounds& bounds, int64_t t0,
                         int64_t rows, int64_t h, int p, uint8_t* nan) {
  const int64_t H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2), hp = h * 2 + p;
  const float* keys = a.keys.as<float>() + hp * n * d;
  const auto query = [&](int64_t r) { return a.query.as<float>() + ((t0 + r) * H * 2 + hp) * d; };
  if (state.head != h) state.head = h, state.failed[0] = state.failed[1] = 0;
  // If too many rows of the last block failed, those of this one will.
  const bool use_bounds = state.failed[p] <= plan.block_rows / 2;
  if (use_bounds) {
    for (int64_t r = 0; r < rows; ++r) quantise_row(state.rows, r, query(r), d, bounds);
    bound_block(workspace, plan, state.rows, int8_keys, rows, d);
  }
  int64_t failed[kMaxBlockRows], count = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t at = p * plan.block_rows + r;
    const float threshold = workspace.thresholds[r];
    workspace.half_found[at] = static_cast<int32_t>(plan.k);
    if (!use_bounds ||
        !select_screened(query(r), keys, d, workspace.scores + r * plan.stride, n, plan.k,
                         state.rows.scales[r], threshold,
                         threshold + 2 * state.rows.margins[r] * bounds.norm,
                         workspace.half_scores + at * plan.k, workspace.half_ids + at * plan.k))
      failed[count++] = r;
  }
  state.failed[p] = count;
  for (int64_t i = 0; i < count; i += kScoredRows) {
    const float* x[kScoredRows];
    float* scores[kScoredRows];
    for (int64_t s = 0; s < kScoredRows; ++s) {
      const int64_t r = failed[i + s < count ? i + s : count - 1];
      x[s] = query(r);
      scores[s] = workspace.scores + r * plan.stride;
    }
    score_all(x, keys, d, n, scores);
  }
  for (int64_t i = 0; i < count; ++i)
    select_half(a, workspace, plan, h, p, failed[i], workspace.scores + failed[i] * plan.stride, n,
                __builtin_nanf(""), nan[failed[i]]);
}

// Quantises the keys of every (head, half) into columns [2H], and makes bounds [2H] those of all
// keys of each; false if keys of one can't be screened.
inline bool quantise_keys(KernelContext& ctx, const ProductKeyLookup& a, const LookupPlan& plan,
                          QuantisedColumns* columns, ColumnBounds* bounds) {
  const int64_t H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2),
                panels = plan.columns / kTileColumns, bytes = groups_of(d) * kGroupBytes;
  const auto panel_bounds = ctx.scratch<ColumnBounds>(2 * H * panels);
  for (int64_t hp = 0; hp < 2 * H; ++hp)
    columns[hp] = {.panels = ctx.scratch<uint8_t>(plan.columns * bytes),
                   .scales = ctx.scratch<float>(plan.columns),
                   .norms = ctx.scratch<float>(plan.columns)};
  ctx.parallel_for(2 * H * panels, kPackGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t hp = u / panels;
      panel_bounds[u] = quantise_columns(columns[hp], a.keys.as<float>() + hp * n * d, d,
                                         u % panels * kTileColumns, n);
    }
  });
  for (int64_t hp = 0; hp < 2 * H; ++hp) {
    bounds[hp] = panel_bounds[hp * panels];
    for (int64_t i = 1; i < panels; ++i) bounds[hp].merge(panel_bounds[hp * panels + i]);
    if (!bounds[hp].usable) return false;
  }
  return true;
}

// The lookup by bounds of the scores; false, and nothing written, if the keys can't be screened.
bool lookup_screened(KernelContext& ctx, const ProductKeyLookup& a, const LookupPlan& plan,
                     const LookupWorkspace* workspaces) {
  const int64_t H = a.query.dim(1), block_rows = plan.block_rows,
                bytes = groups_of(a.query.dim(3)) * kGroupBytes;
  const auto columns = ctx.scratch<QuantisedColumns>(2 * H);
  const auto bounds = ctx.scratch<ColumnBounds>(2 * H);
  if (!quantise_keys(ctx, a, plan, columns, bounds)) return false;
  const auto states = ctx.scratch<ScreeningState>(ctx.threads());
  for (int w = 0; w < ctx.threads(); ++w)
    states[w] = {.rows = {.panels = ctx.scratch<int8_t>(block_rows * bytes),
                          .offsets = ctx.scratch<int32_t>(block_rows),
                          .margins = ctx.scratch<float>(block_rows),
                          .scales = ctx.scratch<float>(block_rows)},
                 .head = -1,
                 .failed = {}};
  lookup_blocks(ctx, a, plan, workspaces,
                [&](int worker, int64_t t0, int64_t rows, int64_t h, int p, uint8_t* nan) {
                  const int64_t hp = h * 2 + p;
                  screen_block(a, workspaces[worker], plan, states[worker], columns[hp], bounds[hp],
                               t0, rows, h, p, nan);
                });
  return true;
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif

#endif
