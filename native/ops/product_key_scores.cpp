#include "ops/product_key_scores.h"

#include "cpu/matrix_product.h"
#include "cpu/widen.h"

namespace ml::cpu {

// One product for each (head, half); a row of query and of scores is a token's.
void product_key_scores(KernelContext& ctx, const ProductKeyScores& a) {
  if (a.scores.size() == 0) return;  // another axis may be huge
  const int64_t T = a.query.dim(0), H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2);
  const float *query = widened(ctx, a.query).as<float>(), *keys = widened(ctx, a.keys).as<float>();
  for (int64_t hp = 0; hp < 2 * H; ++hp)
    multiply(ctx, Product{.c = a.scores.as<float>() + hp * n,
                          .ldc = 2 * H * n,
                          .a = {query + hp * d, 2 * H * d, 1},
                          .b = {keys + hp * n * d, 1, d},
                          .M = T,
                          .N = n,
                          .K = d,
                          .bias = nullptr,
                          .accumulate = false});
}

}  // namespace ml::cpu
