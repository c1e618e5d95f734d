// Blocks of the product-key lookup: half lists from a block's scores, and the loop over blocks that
// combines them. Included inside an instruction-set pass.

#if defined(ML_OPS_PRODUCT_KEY_HALF_LISTS_CPU_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_OPS_PRODUCT_KEY_HALF_LISTS_CPU_H
#undef ML_OPS_PRODUCT_KEY_HALF_LISTS_CPU_H
#else
#define ML_OPS_PRODUCT_KEY_HALF_LISTS_CPU_H
#endif

#include "ops/product_key_combine_cpu.h"

namespace ml::cpu::ML_ISA {
namespace {

// The half list of row r of a block in half p of head h. row: its scores, `length` of them.
// threshold: one that at least k of them reach, or NaN. Sets `nan` if one of the scores is.
inline void select_half(const ProductKeyLookup& a, const LookupWorkspace& workspace,
                        const LookupPlan& plan, int64_t h, int p, int64_t r, float* row,
                        int64_t length, float threshold, uint8_t& nan) {
  const int64_t n = a.keys.dim(2), k = plan.k, at = p * plan.block_rows + r;
  float* scores = workspace.half_scores + at * k;
  int32_t* ids = workspace.half_ids + at * k;
  if (threshold == threshold && select_above(row, length, k, threshold, scores, ids)) {
    workspace.half_found[at] = static_cast<int32_t>(k);
    return;
  }
  if (a.mask) {
    const uint8_t* mask = a.mask.as<uint8_t>() + (h * 2 + p) * n;
    for (int64_t j = 0; j < n; ++j) row[j] = mask[j] ? row[j] : -__builtin_inff();
  }
  bool seen;
  workspace.half_found[at] =
      static_cast<int32_t>(select_top(row, n, k, true, scores, ids, workspace.sort_keys, seen));
  nan |= static_cast<uint8_t>(seen);
}

// Combines the two half lists of row r of a block.
inline void combine_row(const ProductKeyLookup& a, const LookupWorkspace& workspace,
                        const LookupPlan& plan, int64_t th, int64_t r, bool nan) {
  const int64_t second = plan.block_rows + r, k = plan.k;
  const HalfList half[2] = {{.scores = workspace.half_scores + r * k,
                             .ids = workspace.half_ids + r * k,
                             .found = workspace.half_found[r]},
                            {.scores = workspace.half_scores + second * k,
                             .ids = workspace.half_ids + second * k,
                             .found = workspace.half_found[second]}};
  combine_halves(a, workspace, plan, th, half, nan);
}

// The thresholds of a block's rows, from their lane maxima.
inline void block_thresholds(const LookupWorkspace& workspace, const LookupPlan& plan,
                             int64_t rows) {
  const int64_t maxima = plan.maxima_vectors * kWidth;
  for (int64_t r = 0; r < rows; r += kWidth) {
    if (maxima)
      find_thresholds(workspace.lane_maxima + r * maxima, maxima, plan.k, workspace.transposed,
                      workspace.thresholds + r);
    else
      store(workspace.thresholds + r, set1(__builtin_nanf("")));
  }
}

// select(worker, t0, rows, h, p, nan): the half lists of `rows` tokens from t0 on in half p of head
// h, into the worker's workspace.
template <class Select>
void lookup_blocks(KernelContext& ctx, const ProductKeyLookup& a, const LookupPlan& plan,
                   const LookupWorkspace* workspaces, Select&& select) {
  const int64_t T = a.query.dim(0), H = a.query.dim(1), blocks = divide_up(T, plan.block_rows);
  // Head by head, so that the packed keys of one head stay in the cache over its blocks.
  ctx.parallel_for(H * blocks, 1, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t h = u / blocks, t0 = u % blocks * plan.block_rows;
      const int64_t rows = T - t0 < plan.block_rows ? T - t0 : plan.block_rows;
      uint8_t nan[kMaxBlockRows] = {};
      for (int p = 0; p < 2; ++p) select(worker, t0, rows, h, p, nan);
      for (int64_t r = 0; r < rows; ++r)
        combine_row(a, workspaces[worker], plan, (t0 + r) * H + h, r, nan[r]);
    }
  });
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
