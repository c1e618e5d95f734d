#include "ops/product_key_scores.h"

#ifdef ML_ISA
#include "cpu/gemm.h"

namespace ml::cpu::ML_ISA {
namespace {

// One product for each (head, half): rows of query and scores are a whole token apart.
void scores_products(Context& ctx, const ProductKeyScores& a) {
  const int64_t T = a.query.dim(0), H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2);
  for (int64_t hp = 0; hp < 2 * H; ++hp)
    multiply(ctx, {a.scores.as<float>() + hp * n,
                   2 * H * n,
                   {a.query.as<float>() + hp * d, 2 * H * d, 1},
                   {a.keys.as<float>() + hp * n * d, 1, d},
                   T,
                   n,
                   d,
                   nullptr,
                   false});
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#define ML_ISA_SOURCE "ops/product_key_scores.cpp"
#include "cpu/foreach_isa.h"
#include "cpu/widen.h"

namespace ml::cpu {

void product_key_scores(Context& ctx, const ProductKeyScores& args) {
  ProductKeyScores a = args;
  a.query = widened(ctx, args.query);
  a.keys = widened(ctx, args.keys);
  ML_DISPATCH(scores_products)(ctx, a);
}

}  // namespace ml::cpu
#endif
