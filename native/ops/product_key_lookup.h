#pragma once
// Product-key lookup (Lample et al. 2019, section 3.1; Berges et al. 2024, section 2), for each
// token t and head h:
//   s_p[j]     = <query[t, h, p, :], keys[h, p, j, :]>      p in {0, 1}, j in [0, n)
//   t_p, I_p   = the top k of s_p: score descending, then j ascending; ranks 0 … k - 1
//   winners    = the first k pairs of ranks (i, j) by t_0[i] + t_1[j] (rounded to float32)
//                descending, then i ascending, then j ascending
//   indices    = I_0[i] * n + I_1[j]
//   scores     = t_0[i] + t_1[j]
//   weights    = gate(scores): softmax over the k, or relu, sigmoid, or none (the scores)
// Only pairs with (i + 1)(j + 1) <= k can win, ties and rounding included, as float addition is
// monotone.
//
//   query     [T, H, 2, d]   float32 | float16 | bfloat16  in
//   keys      [H, 2, n, d]   as query                      in
//   mask      [H, 2, n]      uint8    in, optional: half-keys with 0 are never selected
//   scores    [T, H, k]      float32  out; backward: in
//   indices   [T, H, k]      int32    out; backward: in
//   weights   [T, H, k]      float32  out; backward: in
//   dweights  [T, H, k]      float32  in
//   dquery    [T, H, 2, d]   float32  out, optional
//   dkeys     [H, 2, n, d]   float32  added to, optional
// 1 <= n <= 46340, so that n * n < 2^31. 1 <= k < 2^31; k may exceed n. Backward: T * k < 2^31.
//
// Half scores are clamped to ±FLT_MAX before they are added, and so is their sum. Half scores of
// -Inf are never selected. If fewer than k pairs can be selected (k > n * n, masks), the rest are
// padding entries: index -1, score -Inf, weight 0. A NaN among the half scores of one (token, head)
// makes all its k weights NaN, with indices that are still in range.
//
// Backward, with the selection as a constant, half_0 = index / n and half_1 = index % n:
//   softmax   ds_r = w_r (dw_r - sum over q of w_q dw_q)
//   relu      ds_r = dw_r [s_r > 0]
//   sigmoid   ds_r = dw_r w_r (1 - w_r)
//   none      ds_r = dw_r
//   dquery[t, h, p, :]  = sum over r of ds_r keys[h, p, half_p(r), :]
//   dkeys[h, p, j, :]  += sum over (t, r) with half_p(r) = j of ds_r query[t, h, p, :]
// Sums run in ascending (t, r), and are added to dkeys as a whole.
//
// `compute` bfloat16 rounds query and keys, of any float dtypes, forward and backward; scores,
// their gradients and all sums are float32.

#include "core/limits.h"
#include "ops/product_key_scores.h"

namespace ml {

enum class Gate : uint8_t { softmax, relu, sigmoid, none };
constexpr int count_of(Gate) { return static_cast<int>(Gate::none) + 1; }

inline constexpr int64_t kMaxHalfKeys = 46340;
static_assert(kMaxHalfKeys * kMaxHalfKeys < kIndexLimit, "indices are int32");

// Half scores and their sums stay finite: no infinity cancels another.
ML_HOST_DEVICE constexpr float clamp_finite(float x) {
  constexpr float kMaxFinite = 3.402823466e38f;
  return x > kMaxFinite ? kMaxFinite : (x < -kMaxFinite ? -kMaxFinite : x);
}

// The score of a pair of clamped half scores.
ML_HOST_DEVICE constexpr float pair_score(float first, float second) {
  return clamp_finite(first + second);
}

// The weight of one score under any gate but softmax, with the device's sigmoid. relu keeps a NaN.
template <class Sigmoid>
ML_HOST_DEVICE constexpr float gate_weight(Gate gate, float s, Sigmoid sigmoid) {
  if (gate == Gate::relu) return s > 0 ? s : (s != s ? s : 0.0f);
  return gate == Gate::sigmoid ? sigmoid(s) : s;
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
  int64_t k = 1;
  Gate gate = Gate::softmax;
  Compute compute = Compute::float32;
};

struct ProductKeyLookupBackward {
  View dquery, dkeys, dweights, scores, indices, weights, query, keys;
  Gate gate = Gate::softmax;
  Compute compute = Compute::float32;
  bool indices_known = false;  // in range: they need no check
  // Each row of indices is a lookup's winners. With a pair of half-keys (i, j), by rank, all before
  // it in both halves win, so that k winners have at most k + 1 half-keys of both halves.
  bool winners_known = false;
};

// made_indices(args, made): the indices that an operation makes, as made(view, limit).
template <class Made>
void made_indices(const ProductKeyLookup& a, Made&& made) {
  made(a.indices, a.keys.dim(2) * a.keys.dim(2));
}

inline void check_lookup(const char* op, const View& query, const View& keys, Compute compute) {
  check_query(op, query, keys, compute);
  expect(keys.dim(2) >= 1 && keys.dim(2) <= kMaxHalfKeys, Code::shape, op, "keys",
         "have from 1 to 46340 half-keys per half", std::to_string(keys.dim(2)));
}

template <class Input>
constexpr void inputs(const ProductKeyLookup& a, Input&& input) {
  input("query", a.query);
  input("keys", a.keys);
  input("mask", a.mask);
}

inline Outputs<ProductKeyLookup, 3> outputs(const ProductKeyLookup& a) {
  const char* op = "productKeyLookup";
  check_lookup(op, a.query, a.keys, a.compute);
  if (a.k < 1 || a.k >= kIndexLimit)
    fail(Code::value, op, "knn", "be from 1 to 2^31 - 1", std::to_string(a.k));
  if (a.mask) {
    expect_dtype(op, "mask", a.mask, DType::u8);
    expect_shape(op, "mask", a.mask, {a.keys.dim(0), 2, a.keys.dim(2)});
  }
  const Shape shape{a.query.dim(0), a.query.dim(1), a.k};
  return {op,
          {{&ProductKeyLookup::scores, "out.scores", shape},
           {&ProductKeyLookup::indices, "out.indices", shape, DType::i32},
           {&ProductKeyLookup::weights, "out.weights", shape}}};
}

template <class Input>
constexpr void inputs(const ProductKeyLookupBackward& a, Input&& input) {
  input("dWeights", a.dweights);
  input("lookup.scores", a.scores);
  input("lookup.indices", a.indices);
  input("lookup.weights", a.weights);
  input("query", a.query);
  input("keys", a.keys);
}

inline Outputs<ProductKeyLookupBackward, 2> outputs(const ProductKeyLookupBackward& a) {
  const char* op = "productKeyLookupBackward";
  check_lookup(op, a.query, a.keys, a.compute);
  expect_rank(op, "lookup.weights", a.weights, 3, "[tokens, heads, knn]");
  const Shape shape{a.query.dim(0), a.query.dim(1), a.weights.dim(2)};
  if (shape[2] < 1) fail(Code::shape, op, "lookup.weights", "have a knn of at least 1", "0");
  if (shape[0] * shape[2] >= kIndexLimit)  // kernels number the entries of a half-key by int32
    fail(Code::shape, op, "lookup.weights", "have fewer than 2^31 entries a head",
         to_string(a.weights.shape), "Pass the tokens in several calls.");
  expect_float32(op, "lookup.weights", a.weights, shape);
  expect_float32(op, "lookup.scores", a.scores, shape);
  expect_int32(op, "lookup.indices", a.indices, shape);
  expect_float32(op, "dWeights", a.dweights, shape);
  return {op,
          {{.view = &ProductKeyLookupBackward::dquery,
            .name = "out.dQuery",
            .shape = a.query.shape,
            .optional = true},
           {.view = &ProductKeyLookupBackward::dkeys,
            .name = "out.dKeys",
            .shape = a.keys.shape,
            .optional = true,
            .added_to = true}}};
}

}  // namespace ml
