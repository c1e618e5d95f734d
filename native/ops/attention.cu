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

// Of q [B, T, H, d] and of k [B, K, G, d].
struct Sizes {
  int64_t B, T, H, K, G;
  int d;
  bool causal;
  // Where query (b, t, h), and key (b, u, g), begins.
  __device__ int64_t query(int64_t b, int64_t t, int64_t h) const {
    return ((b * T + t) * H + h) * d;
  }
  __device__ int64_t key(int64_t b, int64_t u, int64_t g) const {
    return ((b * K + u) * G + g) * d;
  }
};

// One warp's query, of all [B, H, T].
struct QueryRow {
  int64_t own;     // where it begins
  int64_t key;     // where the first key of its head begins
  int64_t stride;  // from key to key
  int64_t seen;
  __device__ QueryRow(const Sizes& n, int64_t row) {
    const int64_t t = row % n.T, h = row / n.T % n.H, b = row / n.T / n.H;
    own = n.query(b, t, h);
    key = n.key(b, 0, h / (n.H / n.G));
    stride = n.G * n.d;
    seen = seen_keys(n.T, n.K, n.causal, t);
  }
};

// One warp computes one query over the keys in ascending order, with a running maximum.
__global__ void __launch_bounds__(kAttentionWarps* kWarp)
    attention_kernel(Guard guard, float* y, float* lse, const float* q, const float* k,
                     const float* v, Sizes n, float scale) {
  if (guard.aborted()) return;
  // [0, B * H * T)
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kAttentionWarps + warp_of_block();
  if (row < n.B * n.H * n.T) {
    const QueryRow at(n, row);
    const Row query = load_row(q + at.own, n.d);
    Row sum{};
    float max = -INFINITY, total = 0;
    for (int64_t u = 0; u < at.seen; ++u) {
      const int64_t key = at.key + u * at.stride;
      const float s = scale * row_dot(query, load_row(k + key, n.d));
      const float next = fmaxf(max, s), shift = next == -INFINITY ? 0.0f : next;
      const float rescale = expf(max - shift), weight = expf(s - shift);
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) sum.v[i] *= rescale;
      add_scaled(sum, weight, load_row(v + key, n.d));
      total = total * rescale + weight;
      max = next;
    }
    if (at.seen > 0) {
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) sum.v[i] /= total;
    }
    store_row(y + at.own, sum, n.d);
    if (lane() == 0) lse[row] = max + logf(total);
  }
}

// One warp computes dq of one query.
__global__ void __launch_bounds__(kAttentionWarps* kWarp)
    attention_dq_kernel(Guard guard, float* dq, const float* dy, const float* y, const float* lse,
                        const float* q, const float* k, const float* v, Sizes n, float scale) {
  if (guard.aborted()) return;
  // [0, B * H * T)
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kAttentionWarps + warp_of_block();
  if (row < n.B * n.H * n.T) {
    const QueryRow at(n, row);
    const Row query = load_row(q + at.own, n.d), dy_row = load_row(dy + at.own, n.d);
    const float D = row_dot(dy_row, load_row(y + at.own, n.d)), z = lse[row];
    Row sum{};
    for (int64_t u = 0; u < at.seen; ++u) {
      const int64_t from = at.key + u * at.stride;
      const Row key = load_row(k + from, n.d);
      const float p = expf(scale * row_dot(query, key) - z);
      add_scaled(sum, scale * p * (row_dot(dy_row, load_row(v + from, n.d)) - D), key);
    }
    store_row(dq + at.own, sum, n.d);
  }
}

// One warp computes dk and dv of one key, over the queries that see it: head by head, ascending.
__global__ void __launch_bounds__(kAttentionWarps* kWarp)
    attention_dkv_kernel(Guard guard, float* dk, float* dv, const float* dy, const float* y,
                         const float* lse, const float* q, const float* k, const float* v, Sizes n,
                         float scale) {
  if (guard.aborted()) return;
  // [0, B * G * K)
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kAttentionWarps + warp_of_block();
  if (row < n.B * n.G * n.K) {
    const int64_t u = row % n.K, g = row / n.K % n.G, b = row / n.K / n.G, own = n.key(b, u, g),
                  group = n.H / n.G, before = u - (n.K - n.T),
                  first = n.causal && before > 0 ? before : 0;
    const Row key = load_row(k + own, n.d), value = load_row(v + own, n.d);
    Row key_sum{}, value_sum{};
    for (int64_t h = g * group; h < (g + 1) * group; ++h)
      for (int64_t t = first; t < n.T; ++t) {
        const int64_t at = n.query(b, t, h);
        const Row query = load_row(q + at, n.d), dy_row = load_row(dy + at, n.d);
        const float p = expf(scale * row_dot(query, key) - lse[(b * n.H + h) * n.T + t]);
        const float D = row_dot(dy_row, load_row(y + at, n.d));
        add_scaled(value_sum, p, dy_row);
        add_scaled(key_sum, scale * p * (row_dot(dy_row, value) - D), query);
      }
    store_row(dk + own, key_sum, n.d);
    store_row(dv + own, value_sum, n.d);
  }
}

Sizes sizes_of(const View& q, const View& k, bool causal) {
  return {.B = q.dim(0),
          .T = q.dim(1),
          .H = q.dim(2),
          .K = k.dim(1),
          .G = k.dim(2),
          .d = static_cast<int>(q.dim(3)),
          .causal = causal};
}

// One warp a row.
dim3 grid_of(int64_t rows) { return dim3(blocks_for(rows, kAttentionWarps)); }

}  // namespace

void attention(CudaStream& stream, const Attention& a) {
  const Sizes n = sizes_of(a.q, a.k, a.causal);
  launch(attention_kernel, grid_of(a.lse.size()), dim3(kAttentionWarps * kWarp), 0, stream,
         a.y.as<float>(), a.lse.as<float>(), a.q.as<float>(), a.k.as<float>(), a.v.as<float>(), n,
         a.scale);
}

void attention_backward(CudaStream& stream, const AttentionBackward& a) {
  const Sizes n = sizes_of(a.q, a.k, a.causal);
  const float *dy = a.dy.as<float>(), *y = a.y.as<float>(), *lse = a.lse.as<float>(),
              *q = a.q.as<float>(), *k = a.k.as<float>(), *v = a.v.as<float>();
  launch(attention_dq_kernel, grid_of(a.lse.size()), dim3(kAttentionWarps * kWarp), 0, stream,
         a.dq.as<float>(), dy, y, lse, q, k, v, n, a.scale);
  launch(attention_dkv_kernel, grid_of(n.B * n.G * n.K), dim3(kAttentionWarps * kWarp), 0, stream,
         a.dk.as<float>(), a.dv.as<float>(), dy, y, lse, q, k, v, n, a.scale);
}

}  // namespace ml::ML_CUDA_NAMESPACE
