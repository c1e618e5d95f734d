// Attention (ops/attention.h): one warp per query, or per key, with an online softmax; a head's row
// is spread over the lanes.

#include "ops/attention.h"

#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"
#include "cuda/warp.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

constexpr int kPerLane = static_cast<int>(kMaxHeadWidth) / kWarp;  // elements of a row

// A row [d] in registers: v[i] of a lane is element lane + 32 i, zero past the end.
struct Row {
  float v[kPerLane];
};

__device__ inline Row load_row(const float* row, int d) {
  Row r;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int c = lane() + i * kWarp;
    r.v[i] = c < d ? row[c] : 0.0f;
  }
  return r;
}

__device__ inline void store_row(float* row, const Row& r, int d) {
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int c = lane() + i * kWarp;
    if (c < d) row[c] = r.v[i];
  }
}

__device__ inline float row_dot(const Row& a, const Row& b) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) sum = fmaf(a.v[i], b.v[i], sum);
  return warp_sum(sum);
}

__device__ inline void add_scaled(Row& y, float a, const Row& x) {
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) y.v[i] = fmaf(a, x.v[i], y.v[i]);
}

struct Sizes {
  int64_t B, T, H;
  int d;
  // Where (batch, head) `bh` begins in [B, T, H, d], and the stride of its times.
  __device__ int64_t base(int64_t bh) const { return ((bh / H) * T * H + bh % H) * d; }
  __device__ int64_t stride() const { return H * d; }
};

// One warp computes one query over the keys in ascending order, with a running maximum.
__global__ void __launch_bounds__(kAttentionWarps* kWarp)
    attention_kernel(Guard guard, float* y, float* lse, const float* q, const float* k,
                     const float* v, Sizes n, float scale, bool causal) {
  if (guard.aborted()) return;
  // [0, B * H * T)
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kAttentionWarps + warp_of_block();
  if (row < n.B * n.H * n.T) {
    const int64_t t = row % n.T, base = n.base(row / n.T), keys = causal ? t + 1 : n.T;
    const Row query = load_row(q + base + t * n.stride(), n.d);
    Row sum{};
    float max = -INFINITY, total = 0;
    for (int64_t u = 0; u < keys; ++u) {
      const float s = scale * row_dot(query, load_row(k + base + u * n.stride(), n.d));
      const float next = fmaxf(max, s), rescale = expf(max - next), weight = expf(s - next);
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) sum.v[i] *= rescale;
      add_scaled(sum, weight, load_row(v + base + u * n.stride(), n.d));
      total = total * rescale + weight;
      max = next;
    }
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) sum.v[i] /= total;
    store_row(y + base + t * n.stride(), sum, n.d);
    if (lane() == 0) lse[row] = max + logf(total);
  }
}

// One warp computes dq of one query.
__global__ void __launch_bounds__(kAttentionWarps* kWarp)
    attention_dq_kernel(Guard guard, float* dq, const float* dy, const float* y, const float* lse,
                        const float* q, const float* k, const float* v, Sizes n, float scale,
                        bool causal) {
  if (guard.aborted()) return;
  // [0, B * H * T)
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kAttentionWarps + warp_of_block();
  if (row < n.B * n.H * n.T) {
    const int64_t t = row % n.T, base = n.base(row / n.T), own = base + t * n.stride(),
                  keys = causal ? t + 1 : n.T;
    const Row query = load_row(q + own, n.d), dy_row = load_row(dy + own, n.d);
    const float D = row_dot(dy_row, load_row(y + own, n.d)), z = lse[row];
    Row sum{};
    for (int64_t u = 0; u < keys; ++u) {
      const Row key = load_row(k + base + u * n.stride(), n.d);
      const float p = expf(scale * row_dot(query, key) - z);
      add_scaled(sum, scale * p * (row_dot(dy_row, load_row(v + base + u * n.stride(), n.d)) - D),
                 key);
    }
    store_row(dq + own, sum, n.d);
  }
}

// One warp computes dk and dv of one key, over the queries that see it in ascending order.
__global__ void __launch_bounds__(kAttentionWarps* kWarp)
    attention_dkv_kernel(Guard guard, float* dk, float* dv, const float* dy, const float* y,
                         const float* lse, const float* q, const float* k, const float* v, Sizes n,
                         float scale, bool causal) {
  if (guard.aborted()) return;
  // [0, B * H * T)
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kAttentionWarps + warp_of_block();
  if (row < n.B * n.H * n.T) {
    const int64_t u = row % n.T, bh = row / n.T, base = n.base(bh), own = base + u * n.stride();
    const Row key = load_row(k + own, n.d), value = load_row(v + own, n.d);
    Row key_sum{}, value_sum{};
    for (int64_t t = causal ? u : 0; t < n.T; ++t) {
      const int64_t at = base + t * n.stride();
      const Row query = load_row(q + at, n.d), dy_row = load_row(dy + at, n.d);
      const float p = expf(scale * row_dot(query, key) - lse[bh * n.T + t]);
      const float D = row_dot(dy_row, load_row(y + at, n.d));
      add_scaled(value_sum, p, dy_row);
      add_scaled(key_sum, scale * p * (row_dot(dy_row, value) - D), query);
    }
    store_row(dk + own, key_sum, n.d);
    store_row(dv + own, value_sum, n.d);
  }
}

Sizes sizes_of(const View& q) {
  return {.B = q.dim(0), .T = q.dim(1), .H = q.dim(2), .d = static_cast<int>(q.dim(3))};
}

// One warp a row of [B, H, T].
dim3 grid_of(const Sizes& n) { return dim3(blocks_for(n.B * n.H * n.T, kAttentionWarps)); }

}  // namespace

void attention(CudaStream& stream, const Attention& a) {
  const Sizes n = sizes_of(a.q);
  launch(attention_kernel, grid_of(n), dim3(kAttentionWarps * kWarp), 0, stream, a.y.as<float>(),
         a.lse.as<float>(), a.q.as<float>(), a.k.as<float>(), a.v.as<float>(), n, a.scale,
         a.causal);
}

void attention_backward(CudaStream& stream, const AttentionBackward& a) {
  const Sizes n = sizes_of(a.q);
  const float *dy = a.dy.as<float>(), *y = a.y.as<float>(), *lse = a.lse.as<float>(),
              *q = a.q.as<float>(), *k = a.k.as<float>(), *v = a.v.as<float>();
  launch(attention_dq_kernel, grid_of(n), dim3(kAttentionWarps * kWarp), 0, stream,
         a.dq.as<float>(), dy, y, lse, q, k, v, n, a.scale, a.causal);
  launch(attention_dkv_kernel, grid_of(n), dim3(kAttentionWarps * kWarp), 0, stream,
         a.dk.as<float>(), a.dv.as<float>(), dy, y, lse, q, k, v, n, a.scale, a.causal);
}

}  // namespace ml::ML_CUDA_NAMESPACE
