#include "ops/product_key_scores.h"

#ifdef ML_ISA
#include "cpu/gemm.h"

namespace ml::cpu::ML_ISA {
namespace {

// One product for each (head, half); a row of query and of scores is a token's.
void scores_products(KernelContext& ctx, const ProductKeyScores& a) {
  const int64_t T = a.query.dim(0), H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2);
  for (int64_t hp = 0; hp < 2 * H; ++hp)
    multiply(
        ctx,
        Product{.c = a.scores.as<float>() + hp * n,
                .ldc = 2 * H * n,
                .a = {.data = a.query.as<float>() + hp * d,
                      .row_stride = 2 * H * d,
                      .column_stride = 1},
                .b = {.data = a.keys.as<float>() + hp * n * d, .row_stride = 1, .column_stride = d},
                .M = T,
                .N = n,
                .K = d,
                .bias = nullptr,
                .accumulate = false});
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#define ML_ISA_SOURCE "ops/product_key_scores.cpp"
#include "cpu/foreach_isa.h"
#include "cpu/widen.h"

namespace ml::cpu {

void product_key_scores(KernelContext& ctx, const ProductKeyScores& args) {
  ProductKeyScores a = args;
  a.query = widened(ctx, args.query);
  a.keys = widened(ctx, args.keys);
  if (a.scores.size() == 0) return;  // another axis may be huge
  ML_DISPATCH(scores_products)(ctx, a);
}

}  // namespace ml::cpu
#endif
