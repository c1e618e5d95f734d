// Sizes and workspaces of the product-key lookup. Included inside an instruction-set pass.

#if defined(ML_OPS_PRODUCT_KEY_PLAN_CPU_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_OPS_PRODUCT_KEY_PLAN_CPU_H
#undef ML_OPS_PRODUCT_KEY_PLAN_CPU_H
#else
#define ML_OPS_PRODUCT_KEY_PLAN_CPU_H
#endif

#include "cpu/gemm.h"
#include "cpu/select.h"
#include "cpu/tuning.h"
#include "ops/product_key_lookup.h"

namespace ml::cpu::ML_ISA {
namespace {

constexpr int64_t kMaxBlockRows = 4 * kTileRows;

// A block is up to block_rows tokens of one head; a row of it is a token.
struct LookupPlan {
  int64_t block_rows, columns, pairs, k;  // columns: n in whole column panels
  // From one row of scores to the next: not a power of two, so that rows do not fall into the same
  // sets of the cache.
  int64_t stride;
  int64_t maxima_vectors;  // of each row's lane maxima; 0: not computed with the scores
  // [min(k, n)]: k / (i + 1), how many j there are for each i of the pairs
  const int32_t* pair_width;
  const int32_t* pair_reach;  // [min(k, n)]: the first j with (i + 1)(j + 1) >= k
};

// Of one thread. The half lists are those of the block it works on.
struct LookupWorkspace {
  float* packed_query;  // [block_rows, d] in row panels
  float* scores;        // [block_rows, stride], of one half
  float* lane_maxima;   // [block_rows, maxima_vectors * kWidth], of those scores
  float* transposed;    // [maxima_vectors * kWidth, kWidth], for find_thresholds
  float* thresholds;    // [block_rows]; NaN: this row has none
  float* half_scores;   // [2, block_rows, k], and a vector more
  int32_t* half_ids;    // [2, block_rows, k], and a vector more
  int32_t* half_found;  // [2, block_rows]
  float* pair_sums;     // [pairs] of one token, and a vector more
  int32_t* pair_slots;  // [pairs], and a vector more
  uint64_t* sort_keys;  // [max(columns, pairs)]
};

// The number of pairs (i, j) of n each with (i + 1)(j + 1) <= k.
inline int64_t pairs_of(int64_t k, int64_t n) {
  int64_t pairs = 0;
  for (int64_t i = 0; i < k && i < n; ++i) pairs += k / (i + 1) < n ? k / (i + 1) : n;
  return pairs;
}

LookupPlan make_plan(KernelContext& ctx, const ProductKeyLookup& a) {
  LookupPlan plan;
  const int64_t n = a.keys.dim(2);
  plan.k = a.scores.dim(2);
  plan.columns = round_up(n, kTileColumns);
  plan.stride = plan.columns + kTileColumns;
  plan.pairs = pairs_of(plan.k, n);
  plan.block_rows = kMaxBlockRows;
  while (plan.block_rows > kTileRows &&
         plan.block_rows * plan.stride * static_cast<int64_t>(sizeof(float)) > kBlockScoreBytes)
    plan.block_rows -= kTileRows;
  // Every vector of maxima needs a column panel of its own, else there are too few; masked scores
  // are masked after the product.
  const bool has_maxima = !a.mask && plan.k <= kMaxVectorK &&
                          lane_maxima_vectors(plan.k) <= plan.columns / kTileColumns;
  plan.maxima_vectors = has_maxima ? lane_maxima_vectors(plan.k) : 0;
  const int64_t listed = plan.k < n ? plan.k : n;
  int32_t *width = ctx.scratch<int32_t>(listed), *reach = ctx.scratch<int32_t>(listed);
  for (int64_t i = 0; i < listed; ++i) {
    width[i] = static_cast<int32_t>(plan.k / (i + 1));
    reach[i] = static_cast<int32_t>((plan.k - 1) / (i + 1));
  }
  plan.pair_width = width;
  plan.pair_reach = reach;
  return plan;
}

// One for each thread.
LookupWorkspace* make_workspaces(KernelContext& ctx, const LookupPlan& plan, int64_t d) {
  LookupWorkspace* workspaces = ctx.scratch<LookupWorkspace>(ctx.threads());
  const int64_t rows = plan.block_rows, vector_rows = round_up(rows, kWidth),
                maxima = plan.maxima_vectors * kWidth;
  for (int w = 0; w < ctx.threads(); ++w)
    workspaces[w] = {
        .packed_query = ctx.scratch<float>(rows * d),
        .scores = ctx.scratch<float>(rows * plan.stride),
        .lane_maxima = ctx.scratch<float>(vector_rows * maxima),
        .transposed = ctx.scratch<float>(maxima * kWidth),
        .thresholds = ctx.scratch<float>(vector_rows),
        .half_scores = ctx.scratch<float>(2 * rows * plan.k + kWidth),
        .half_ids = ctx.scratch<int32_t>(2 * rows * plan.k + kWidth),
        .half_found = ctx.scratch<int32_t>(2 * rows),
        .pair_sums = ctx.scratch<float>(plan.pairs + kWidth),
        .pair_slots = ctx.scratch<int32_t>(plan.pairs + kWidth),
        .sort_keys = ctx.scratch<uint64_t>(plan.columns > plan.pairs ? plan.columns : plan.pairs),
    };
  return workspaces;
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
