#pragma once
// Product-key lookup (Lample et al. 2019, section 3.1; Berges et al. 2024, section 2).
//   s_p[j]   = <query[t, h, p, :], keys[h, p, j, :]>                  p in {0, 1}, j in [0, n)
//   t_p, I_p = the k greatest of s_p: score descending, then j ascending       (ranks 0 … k-1)
//   winners  = the k first pairs (i, j) by: t_0[i] + t_1[j] (rounded to float32) descending, then i
//   ascending, then j ascending indices  = I_0[i] * n + I_1[j];   scores = t_0[i] + t_1[j]; weights
//   = gate(scores)
// Only pairs with (i+1)(j+1) <= k can win, ties and rounding included (float addition is monotone).
//
//   query [T, H, 2, d]   keys [H, 2, n, d] float32, float16 or bfloat16, both alike   mask [H, 2,
//   n] uint8 optional: 0 is never selected scores, weights [T, H, k] float32   indices [T, H, k]
//   int32   gradients float32              n*n < 2^31, 1 <= k
//
// Gates over the k scores: softmax (subtracts the greatest), relu, sigmoid, none (the scores
// themselves). Half scores are clamped to ±FLT_MAX before they are added, and so is the sum; -Inf
// half scores and masked keys are never selected. If fewer than k pairs can be selected (k > n*n,
// masks), the rest are empty places: index -1, score -Inf, weight 0. k may exceed n. A NaN among
// the half scores of one (token, head) makes all its k weights NaN, with indices that are still
// valid.
//
// Backward, selection taken as constant; ds is the gate's gradient at the winners:
//   softmax  ds_r = w_r (dw_r - sum_r' w_r' dw_r')      relu ds_r = dw_r [s_r > 0]      sigmoid
//   ds_r = dw_r w_r (1 - w_r)      none ds_r = dw_r dquery[t, h, p, :]  = sum_r ds_r keys[h, p,
//   half_p(r), :]         dkeys[h, p, j, :] += sum over (t, r) with half_p(r) = j of ds_r query[t,
//   h, p, :]
// where half_0 = index / n, half_1 = index % n. Sums run in ascending (t, r), and are added to
// dkeys as a whole. dquery is written, dkeys is added to; each is optional.

#include "ops/product_key_scores.h"

namespace ml {

enum class Gate : uint8_t { softmax, relu, sigmoid, none };

// Half scores and their sums stay finite: no infinity cancels another.
ML_HOST_DEVICE constexpr float clamp_finite(float x) {
  constexpr float kGreatest = 3.402823466e38f;
  return x > kGreatest ? kGreatest : (x < -kGreatest ? -kGreatest : x);
}

// The score of a pair of clamped half scores.
ML_HOST_DEVICE constexpr float pair_score(float first, float second) {
  return clamp_finite(first + second);
}

// The gradient of a score from its weight's; `mean` is the softmax's sum of w * dw.
ML_HOST_DEVICE constexpr float score_gradient(Gate gate, float dw, float w, float s, float mean) {
  switch (gate) {
    case Gate::softmax: return w * (dw - mean);
    case Gate::relu: return s > 0 ? dw : (s != s ? s : 0.0f);
    case Gate::sigmoid: return dw * w * (1.0f - w);
    case Gate::none: return dw;
  }
  return 0;
}

struct ProductKeyLookup {
  View scores, indices, weights, query, keys, mask;
  Gate gate = Gate::softmax;
};

struct ProductKeyLookupBackward {
  View dquery, dkeys, dweights, scores, indices, weights, query, keys;
  Gate gate = Gate::softmax;
};

inline void check_lookup(const char* op, const View& query, const View& keys) {
  check_query(op, query, keys);
  expect(keys.dim(2) >= 1 && keys.dim(2) <= 46340, Code::shape, op, "keys",
         "have from 1 to 46340 half-keys per half", std::to_string(keys.dim(2)));
}

inline void check(const ProductKeyLookup& a) {
  const char* op = "productKeyLookup";
  check_lookup(op, a.query, a.keys);
  const int64_t k = a.scores.dim(2);
  expect(k >= 1, Code::value, op, "knn", "be at least 1", std::to_string(k));
  if (a.mask) {
    expect_dtype(op, "mask", a.mask, DType::u8);
    expect_shape(op, "mask", a.mask, {a.keys.dim(0), 2, a.keys.dim(2)});
  }
}

inline void check(const ProductKeyLookupBackward& a) {
  const char* op = "productKeyLookupBackward";
  check_lookup(op, a.query, a.keys);
  expect_rank(op, "lookup.weights", a.weights, 3, "[tokens, heads, knn]");
  const Shape shape{a.query.dim(0), a.query.dim(1), a.weights.dim(2)};
  expect_float32(op, "lookup.weights", a.weights, shape);
  expect_float32(op, "lookup.scores", a.scores, shape);
  expect_dtype(op, "lookup.indices", a.indices, DType::i32);
  expect_shape(op, "lookup.indices", a.indices, shape);
  expect_float32(op, "dWeights", a.dweights, shape);
}

}  // namespace ml
