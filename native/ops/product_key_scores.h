#pragma once
// scores[t, h, p, j] = <query[t, h, p, :], keys[h, p, j, :]>
//   query [T, H, 2, d]   keys [H, 2, n, d]   scores [T, H, 2, n]      float32; for study and tests: the lookup never stores them

#include "core/check.h"

namespace ml {

struct ProductKeyScores {
  View scores, query, keys;
};

inline void check(const ProductKeyScores& a) {
  const char* op = "productKeyScores";
  expect_rank(op, "query", a.query, 4, "[tokens, heads, 2, d]");
  expect_rank(op, "keys", a.keys, 4, "[heads, 2, n, d]");
  expect_float32(op, "query", a.query, {a.query.dim(0), a.query.dim(1), 2, a.query.dim(3)});
  expect_float32(op, "keys", a.keys, {a.query.dim(1), 2, a.keys.dim(2), a.query.dim(3)});
  expect_float32(op, "out", a.scores, {a.query.dim(0), a.query.dim(1), 2, a.keys.dim(2)});
}

}  // namespace ml
