#pragma once
// From the gradients of weights to those of half-keys (ops/product_key_lookup.h). The winners of
// one (token, head) that share a half-key are merged first, so that each half-key is gathered once
// for dquery and scattered once to dkeys.

#include "cuda/block.cuh"
#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"
#include "cuda/vec.cuh"
#include "ops/product_key_lookup.h"

namespace ml::ML_CUDA_NAMESPACE {

// An entry (t, h, p, rank) of the half-keys in one number, a pair: row of dkeys, then row of the
// query, then rank. The number of bits of the last two:
struct EntryBits {
  int query, rank;

  __host__ __device__ constexpr int total() const { return query + rank; }
  __device__ uint64_t pair(int64_t row, int64_t of_query, int64_t of_rank) const {
    return static_cast<uint64_t>(row) << total() | static_cast<uint64_t>(of_query) << rank |
           static_cast<uint64_t>(of_rank);
  }
  __device__ int64_t query_of(uint64_t pair) const {
    return static_cast<int64_t>((pair & ((uint64_t{1} << total()) - 1)) >> rank);
  }
  __device__ int64_t rank_of(uint64_t pair) const {
    return static_cast<int64_t>(pair & ((uint64_t{1} << rank) - 1));
  }
};

struct HalfKeyGradients {
  float* values;       // [TH, 2, k]: of the half-keys, in ascending rank of their first winner
  int32_t* half_keys;  // [TH, 2, k], -1 past the last
  uint64_t* pairs;     // [TH, entries], in the order of the half-keys, or nullptr
  const float *dweights, *weights, *scores;  // [TH, k]
  const int32_t* indices;                    // [TH, k]
  int64_t TH, H, k, n;
  int64_t entries;  // of a (token, head) at most
  EntryBits bits;
  Gate gate;
};

namespace {

struct WinnerStorage {
  float gradient[kThreads / kWarp][kMaxMergedK];
  int32_t half_key[kThreads / kWarp][2][kMaxMergedK];
};

// The softmax's sum of w * dw over the winners, the same in every lane.
__device__ inline float mean_of(const HalfKeyGradients& a, int64_t th) {
  float sum = 0;
  for (int64_t r = lane(); r < a.k; r += kWarp)
    if (a.indices[th * a.k + r] >= 0) sum += a.weights[th * a.k + r] * a.dweights[th * a.k + r];
  return warp_sum(sum);
}

// Appends the half-keys of the lanes with `own` to half p of a (token, head), in the order of
// lanes. `count` is their number so far; their pairs begin at `first`. keys: row of dkeys [H, 2, n,
// d] of the first key of the half.
__device__ inline void append(const HalfKeyGradients& a, int64_t th, int p, bool own, float value,
                              int32_t half_key, int64_t keys, int64_t first, int64_t& count) {
  const uint32_t mask = ballot(own);
  if (own) {
    const int64_t query = th * 2 + p, rank = count + popcount(mask & lanes_below());
    a.values[query * a.k + rank] = value;
    a.half_keys[query * a.k + rank] = half_key;
    if (a.pairs) a.pairs[th * a.entries + first + rank] = a.bits.pair(keys + half_key, query, rank);
  }
  count += popcount(mask);
}

// One warp computes the half-key gradients of one (token, head). kMerge: k <= kMaxMergedK, and the
// gradients of equal half-keys are added.
template <bool kMerge>
__global__ void __launch_bounds__(kThreads)
    half_key_gradients_kernel(Guard guard, HalfKeyGradients a) {
  if (guard.aborted()) return;
  // [0, TH) and past it
  const int64_t th = static_cast<int64_t>(blockIdx.x) * (kThreads / kWarp) + warp_of_block();
  if (th >= a.TH) return;  // whole warps, and no block_sync follows
  const float mean = a.gate == Gate::softmax ? mean_of(a, th) : 0;
  [[maybe_unused]] const int w = warp_of_block();
  const int32_t n = static_cast<int32_t>(a.n);
  const int64_t keys = th % a.H * 2 * n;
  const auto end_half = [&](int p, int64_t count) {
    for (int64_t r = count + lane(); r < a.k; r += kWarp) a.half_keys[(th * 2 + p) * a.k + r] = -1;
  };
  const auto pad = [&](int64_t begin, int64_t end) {  // the row past the last
    if (!a.pairs) return;
    for (int64_t i = begin + lane(); i < end; i += kWarp)
      a.pairs[th * a.entries + i] = a.bits.pair(2 * a.H * n, 0, 0);
  };
  [[maybe_unused]] int64_t counts[2] = {0, 0};
  for (int64_t base = 0; base < a.k; base += kWarp) {
    const int64_t r = base + lane();
    const int32_t index = r < a.k ? a.indices[th * a.k + r] : -1;
    const int64_t at = th * a.k + r;
    const float gradient =
        index >= 0 ? score_gradient(a.gate, a.dweights[at], a.weights[at], a.scores[at], mean) : 0;
    const int32_t halves[2] = {index >= 0 ? index / n : -1, index >= 0 ? index % n : -1};
    if constexpr (kMerge) {
      WinnerStorage& s = shared<WinnerStorage>();
      if (r < a.k) {
        s.gradient[w][r] = gradient;
        s.half_key[w][0][r] = halves[0];
        s.half_key[w][1][r] = halves[1];
      }
    } else {
      append(a, th, 0, index >= 0, gradient, halves[0], keys, 0, counts[0]);
      append(a, th, 1, index >= 0, gradient, halves[1], keys + n, a.k, counts[1]);
    }
  }
  if constexpr (kMerge) {
    const WinnerStorage& s = shared<WinnerStorage>();
    warp_sync();
    int64_t before = 0;
#pragma unroll 1
    for (int p = 0; p < 2; ++p) {
      int64_t count = 0;
      for (int64_t base = 0; base < a.k; base += kWarp) {
        const int64_t r = base + lane();
        const int32_t own = r < a.k ? s.half_key[w][p][r] : -1;
        bool first = own >= 0;
        float sum = 0;
        for (int64_t other = 0; other < a.k; ++other) {
          if (s.half_key[w][p][other] != own) continue;
          if (other < r) first = false;
          sum += s.gradient[w][other];
        }
        append(a, th, p, first, sum, own, keys + p * n, before, count);
      }
      end_half(p, count);
      before += count;
    }
    pad(before, a.entries);
  } else {
    end_half(0, counts[0]);
    end_half(1, counts[1]);
    pad(counts[0], a.k);
    pad(a.k + counts[1], a.entries);
  }
}

// sum += factor * matrix[row, :] over the lanes [0, count) of the warp in order, where each lane
// has one row and one factor. A lane with `active` sums kVec columns, from `matrix` on.
template <int kVec, class T>
__device__ inline void add_rows(float (&sum)[kVec], const T* matrix, int64_t stride, int64_t row,
                                float factor, int count, bool active) {
  for (int i = 0; i < count; i += kRowsInFlight) {
    Pack<T, kVec> loaded[kRowsInFlight];
    float factors[kRowsInFlight];
#pragma unroll
    for (int u = 0; u < kRowsInFlight; ++u) {
      const int from = i + u < count ? i + u : i;
      factors[u] = shuffle(factor, from);
      const int64_t r = shuffle(row, from);
      loaded[u] = load_if<kVec>(active && i + u < count, matrix + r * stride);
    }
#pragma unroll
    for (int u = 0; u < kRowsInFlight; ++u) {
      if (!active || i + u >= count) continue;
      float v[kVec];
      widen(v, loaded[u]);
#pragma unroll
      for (int e = 0; e < kVec; ++e) sum[e] = fmaf(factors[u], v[e], sum[e]);
    }
  }
}

void half_key_gradients(CudaStream& stream, const HalfKeyGradients& g) {
  const bool merge = g.k <= kMaxMergedK;
  launch(merge ? half_key_gradients_kernel<true> : half_key_gradients_kernel<false>,
         dim3(blocks_for(g.TH, kThreads / kWarp)), dim3(kThreads),
         merge ? sizeof(WinnerStorage) : 0, stream, g);
}

}  // namespace
}  // namespace ml::ML_CUDA_NAMESPACE
