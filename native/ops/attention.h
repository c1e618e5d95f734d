#pragma once
// Scaled dot-product attention (Vaswani et al. 2017), for the models around memory layers. For each
// batch b and head h:
//   s[t, u]  = scale * <q[t], k[u]>        u <= t where causal, all u otherwise
//   p[t, :]  = softmax(s[t, :])
//   y[t]     = sum over u of p[t, u] v[u]
//   lse[t]   = logsumexp(s[t, :])
// Backward from lse, without p (Dao et al. 2022, section 3.1):
//   D[t]     = <dy[t], y[t]>
//   ds[t, u] = p[t, u] (<dy[t], v[u]> - D[t])
//   dq[t]    = scale * sum over u of ds[t, u] k[u]
//   dk[u]    = scale * sum over t of ds[t, u] q[t]
//   dv[u]    = sum over t of p[t, u] dy[t]
//
//   q, k, v, dy   [B, T, H, d]  float32  in
//   y             [B, T, H, d]  float32  out; backward: in
//   lse           [B, H, T]     float32  out; backward: in
//   dq, dk, dv    [B, T, H, d]  float32  out
// 1 <= d <= 256. Sums run in ascending u, or t. Neither s nor p is stored.

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
  expect_same(op, "k", k, q);
  expect_same(op, "v", v, q);
  return {q.dim(0), q.dim(2), q.dim(1)};
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
           {&AttentionBackward::dk, "out.dk", a.q.shape},
           {&AttentionBackward::dv, "out.dv", a.q.shape}}};
}

}  // namespace ml
