#pragma once
// scores[t, h, p, j] = <query[t, h, p, :], keys[h, p, j, :]>
//   query    [T, H, 2, d]   float32 | float16 | bfloat16  in
//   keys     [H, 2, n, d]   as query                      in
//   scores   [T, H, 2, n]   float32                       out
// Sums are float32. For study and tests: the lookup never stores these scores.

#include "core/compute.h"
#include "ops/operands.h"

namespace ml {

struct ProductKeyScores {
  View scores, query, keys;
};

inline void check_query(const char* op, const View& query, const View& keys,
                        Compute compute = Compute::float32) {
  expect_rank(op, "query", query, 4, "[tokens, heads, 2, d]");
  expect_rank(op, "keys", keys, 4, "[heads, 2, n, d]");
  expect_float(op, "query", query);
  expect_shape(op, "query", query, {query.dim(0), query.dim(1), 2, query.dim(3)});
  expect_second_operand(op, "keys", keys, query.dtype, compute);
  expect_shape(op, "keys", keys, {query.dim(1), 2, keys.dim(2), query.dim(3)});
}

template <class Input>
constexpr void inputs(const ProductKeyScores& a, Input&& input) {
  input("query", a.query);
  input("keys", a.keys);
}

inline Outputs<ProductKeyScores, 1> outputs(const ProductKeyScores& a) {
  const char* op = "productKeyScores";
  check_query(op, a.query, a.keys);
  const Shape scores{a.query.dim(0), a.query.dim(1), 2, a.keys.dim(2)};
  return {op, {{&ProductKeyScores::scores, "out", scores}}};
}

}  // namespace ml
