#pragma once
// Scaled dot-product attention, as the models around memory layers need it (Vaswani et al. 2017),
// for each batch b and head h:
//   s[t, u] = scale * <q[b, t, h, :], k[b, u, h, :]>     u <= t where causal, all u otherwise
//   p[t, :] = softmax(s[t, :]);   y[b, t, h, :] = sum_u p[t, u] v[b, u, h, :];   lse[b, h, t] =
//   logsumexp(s[t, :])
// Backward from lse, without p (Dao et al. 2022, section 3.1), with D[t] = <dy[t], y[t]> and dp[t,
// u] = <dy[t], v[u]>:
//   ds = p (dp - D);   dq[t] = scale sum_u ds[t, u] k[u];   dk[u] = scale sum_t ds[t, u] q[t];
//   dv[u] = sum_t p[t, u] dy[t] q, k, v, y and their gradients [B, T, H, d]   lse [B, H, T]
//   float32, d <= 256. Sums run in ascending u, or t. Neither s nor p is stored.

#include "core/check.h"

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

inline void check_attention(const char* op, const View& q, const View& k, const View& v) {
  expect_rank(op, "q", q, 4, "[batch, time, heads, width]");
  expect_dtype(op, "q", q, DType::f32);
  expect(q.dim(3) >= 1 && q.dim(3) <= kMaxHeadWidth, Code::shape, op, "q",
         "have a head width from 1 to 256", std::to_string(q.dim(3)));
  expect_same(op, "k", k, q);
  expect_same(op, "v", v, q);
}

inline void check(const Attention& a) {
  check_attention("attention", a.q, a.k, a.v);
  expect_same("attention", "out.y", a.y, a.q);
  expect_float32("attention", "out.lse", a.lse, {a.q.dim(0), a.q.dim(2), a.q.dim(1)});
}

inline void check(const AttentionBackward& a) {
  const char* op = "attentionBackward";
  check_attention(op, a.q, a.k, a.v);
  expect_same(op, "dy", a.dy, a.q);
  expect_same(op, "y", a.y, a.q);
  expect_float32(op, "lse", a.lse, {a.q.dim(0), a.q.dim(2), a.q.dim(1)});
}

}  // namespace ml
