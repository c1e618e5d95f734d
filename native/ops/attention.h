#pragma once
// Scaled dot-product attention (Vaswani et al. 2017), for the models around memory layers. For each
// batch b and query head h, with the keys and values of head h / (H / G) (Ainslie et al. 2023):
//   s[t, u]  = scale * <q[t], k[u]>        u <= K - T + t where causal, all u otherwise
//   p[t, :]  = softmax(s[t, :])
//   y[t]     = sum over u of p[t, u] v[u]
//   lse[t]   = logsumexp(s[t, :])
// Backward from lse, without p (Dao et al. 2022, section 3.1):
//   D[t]     = <dy[t], y[t]>
//   ds[t, u] = p[t, u] (<dy[t], v[u]> - D[t])
//   dq[t]    = scale * sum over u of ds[t, u] k[u]
//   dk[u]    = scale * sum over t of ds[t, u] q[t]         and over the query heads of a k and v
//   dv[u]    = sum over t of p[t, u] dy[t]                 head, in order
//
//   q, dy         [B, T, H, d]  float32  in
//   k, v          [B, K, G, d]  float32  in                G divides H
//   y             [B, T, H, d]  float32  out; backward: in
//   lse           [B, H, T]     float32  out; backward: in
//   dq            [B, T, H, d]  float32  out
//   dk, dv        [B, K, G, d]  float32  out
// 1 <= d <= 256. Sums run in ascending u, or t. A query that sees no key, as the first T - K have
// where T > K, has y = 0, lse = -Inf and no part in a gradient. An element reaches nothing that
// does not see it, NaN included.

#include "ops/operands.h"

namespace ml {

inline constexpr int64_t kMaxHeadWidth = 256;

struct Attention {
  View y, lse, q, k, v;
  float scale = 1;
  bool causal = true;
};

struct AttentionBackward {
  View dq, dk, dv, dy, y, lse, q, k, v;
  float scale = 1;
  bool causal = true;
};

// Checks q, k and v; returns the shape of lse.
inline Shape check_attention(const char* op, const View& q, const View& k, const View& v) {
  expect_rank(op, "q", q, 4, "[batch, time, heads, width]");
  expect_dtype(op, "q", q, DType::f32);
  expect(q.dim(3) >= 1 && q.dim(3) <= kMaxHeadWidth, Code::shape, op, "q",
         "have a head width from 1 to 256", std::to_string(q.dim(3)));
  expect_rank(op, "k", k, 4, "[batch, keys, heads of keys, width]");
  const int64_t heads = k.dim(2);
  expect_float32(op, "k", k, {q.dim(0), k.dim(1), heads, q.dim(3)});
  expect(heads == q.dim(2) || (heads > 0 && q.dim(2) % heads == 0), Code::shape, op, "k",
         "have heads that divide the " + std::to_string(q.dim(2)) + " heads of \"q\"",
         std::to_string(heads));
  expect_same(op, "v", v, k);
  return {q.dim(0), q.dim(2), q.dim(1)};
}

// The keys that query t sees are 0 … seen_keys - 1.
constexpr int64_t seen_keys(int64_t queries, int64_t keys, bool causal, int64_t t) {
  if (!causal) return keys;
  const int64_t seen = keys - queries + t + 1;
  return seen < 0 ? 0 : seen;
}

template <class Input>
constexpr void inputs(const Attention& a, Input&& input) {
  input("q", a.q);
  input("k", a.k);
  input("v", a.v);
}

inline Outputs<Attention, 2> outputs(const Attention& a) {
  const Shape lse = check_attention("attention", a.q, a.k, a.v);
  return {"attention", {{&Attention::y, "out.y", a.q.shape}, {&Attention::lse, "out.lse", lse}}};
}

template <class Input>
constexpr void inputs(const AttentionBackward& a, Input&& input) {
  input("dy", a.dy);
  input("y", a.y);
  input("lse", a.lse);
  input("q", a.q);
  input("k", a.k);
  input("v", a.v);
}

inline Outputs<AttentionBackward, 3> outputs(const AttentionBackward& a) {
  const char* op = "attentionBackward";
  const Shape lse = check_attention(op, a.q, a.k, a.v);
  expect_same(op, "dy", a.dy, a.q);
  expect_same(op, "y", a.y, a.q);
  expect_float32(op, "lse", a.lse, lse);
  return {op,
          {{&AttentionBackward::dq, "out.dq", a.q.shape},
           {&AttentionBackward::dk, "out.dk", a.k.shape},
           {&AttentionBackward::dv, "out.dv", a.k.shape}}};
}

}  // namespace ml
