#include "ops/attention.h"

#ifdef ML_ISA
#include "cpu/rows.h"

namespace ml::cpu::ML_ISA {
namespace {

// y[0 … n) += a * x
[[gnu::always_inline]] inline void add_scaled(float* y, float a, const float* x, int64_t n) {
  const Vec factor = set1(a);
  for_vectors(n, [&](int64_t i, int c) {
    store_n(y + i, fma(factor, load_n(x + i, c), load_n(y + i, c)), c);
  });
}

// s[0 … n) = the scores of one query against keys 0 … n; returns their max. `stride`: floats from
// one time to the next.
inline float score_row(float* s, const float* q, const float* k, int64_t n, int64_t stride,
                       int64_t d, float scale) {
  float max_s = -__builtin_inff();
  for (int64_t u = 0; u < n; ++u) {
    s[u] = scale * dot(q, k + u * stride, d);
    max_s = s[u] > max_s ? s[u] : max_s;
  }
  return max_s;
}

// y and lse of query t of one (batch, head). s [T]: workspace.
void attention_query(const Attention& a, int64_t b, int64_t h, int64_t t, float* s) {
  const int64_t T = a.q.dim(1), H = a.q.dim(2), d = a.q.dim(3), stride = H * d,
                base = (b * T * H + h) * d;
  const int64_t n = a.causal ? t + 1 : T;
  const float max_s = score_row(s, a.q.as<float>() + base + t * stride, a.k.as<float>() + base, n,
                                stride, d, a.scale);
  const float sum = exp_sum(s, n, max_s, s);
  float* y = a.y.as<float>() + base + t * stride;
  for (int64_t i = 0; i < d; ++i) y[i] = 0;
  for (int64_t u = 0; u < n; ++u) add_scaled(y, s[u] / sum, a.v.as<float>() + base + u * stride, d);
  a.lse.as<float>()[(b * H + h) * T + t] = max_s + __builtin_logf(sum);
}

// dq, dk and dv of one (batch, head): queries in order, so that the sums of dk and dv have one
// order. p [T]: workspace.
void attention_backward_head(const AttentionBackward& a, int64_t b, int64_t h, float* p) {
  const int64_t T = a.q.dim(1), H = a.q.dim(2), d = a.q.dim(3), stride = H * d,
                base = (b * T * H + h) * d;
  const float *q = a.q.as<float>() + base, *k = a.k.as<float>() + base, *v = a.v.as<float>() + base,
              *y = a.y.as<float>() + base, *dy = a.dy.as<float>() + base;
  float *dq = a.dq.as<float>() + base, *dk = a.dk.as<float>() + base, *dv = a.dv.as<float>() + base;
  for (int64_t t = 0; t < T; ++t)
    for (int64_t i = 0; i < d; ++i)
      dq[t * stride + i] = dk[t * stride + i] = dv[t * stride + i] = 0;
  for (int64_t t = 0; t < T; ++t) {
    const int64_t n = a.causal ? t + 1 : T;
    score_row(p, q + t * stride, k, n, stride, d, a.scale);
    const float lse = a.lse.as<float>()[(b * H + h) * T + t];
    for_vectors(n, [&](int64_t i, int c) { store_n(p + i, exp(load_n(p + i, c) - lse), c); });
    const float *dy_t = dy + t * stride, *q_t = q + t * stride;
    const float D = dot(dy_t, y + t * stride, d);
    for (int64_t u = 0; u < n; ++u) {
      add_scaled(dv + u * stride, p[u], dy_t, d);
      const float ds = a.scale * p[u] * (dot(dy_t, v + u * stride, d) - D);
      add_scaled(dq + t * stride, ds, k + u * stride, d);
      add_scaled(dk + u * stride, ds, q_t, d);
    }
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include "cpu/tuning.h"

#define ML_ISA_SOURCE "ops/attention.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {
namespace {

// Floats from one thread's scores to the next's: a cache line between two threads.
int64_t row_stride(int64_t T) { return T + 16; }

}  // namespace

void attention(KernelContext& ctx, const Attention& a) {
  if (a.q.size() == 0) return;  // another axis may be huge
  const int64_t B = a.q.dim(0), T = a.q.dim(1), H = a.q.dim(2), stride = row_stride(T);
  float* scores = ctx.scratch<float>(ctx.threads() * stride);
  const auto query = ML_DISPATCH(attention_query);
  ctx.parallel_for(B * H * T, kAttentionGrain, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t i = begin; i < end; ++i)
      query(a, i / (H * T), i / T % H, i % T, scores + worker * stride);
  });
}

void attention_backward(KernelContext& ctx, const AttentionBackward& a) {
  if (a.q.size() == 0) return;  // another axis may be huge
  const int64_t B = a.q.dim(0), T = a.q.dim(1), H = a.q.dim(2), stride = row_stride(T);
  float* scores = ctx.scratch<float>(ctx.threads() * stride);
  const auto head = ML_DISPATCH(attention_backward_head);
  ctx.parallel_for(B * H, 1, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t i = begin; i < end; ++i) head(a, i / H, i % H, scores + worker * stride);
  });
}

}  // namespace ml::cpu
#endif
