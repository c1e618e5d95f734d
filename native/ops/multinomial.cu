// Sampling (ops/multinomial.h): a block has one row. Weights are computed anew in every pass over
// it: that is cheaper than to store them. Compiled without fused multiply-add, so that the weights
// are those of every device.

#include "ops/multinomial.h"

#include "cuda/block.cuh"
#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

struct SamplingStorage {
  uint64_t v[kWarp];
};

// Over the block; every thread gets it. blockDim.x is a multiple of 32.
template <class Combine>
__device__ uint64_t block_reduce(uint64_t v, SamplingStorage& s, Combine combine) {
  for (int bits = kWarp / 2; bits > 0; bits /= 2) v = combine(v, shuffle_xor(v, bits));
  if (lane() == 0) s.v[warp_of_block()] = v;
  block_sync();
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  v = lane() < warps ? s.v[lane()] : 0;
  for (int bits = kWarp / 2; bits > 0; bits /= 2) v = combine(v, shuffle_xor(v, bits));
  block_sync();
  return v;
}

__device__ inline uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }
__device__ inline uint64_t plus(uint64_t a, uint64_t b) { return a + b; }

// One row, and which of its choices are left: those with keys of `least` or more.
struct Choices {
  const float* x;
  int64_t n;
  float max, inverse_temperature;
  uint64_t least;

  __device__ uint64_t weight(int64_t i) const {
    return choice_key(x[i], i) < least ? 0 : choice_weight(x[i], max, inverse_temperature);
  }
};

// The key of the last of the fewest largest choices that are left whose measures, f(weight), sum to
// `wanted` or more: the largest key from which on they do. Two bits of it a pass.
template <class Measure>
__device__ uint64_t last_choice(const Choices& c, uint64_t wanted, SamplingStorage& s,
                                Measure measure) {
  uint64_t key = 0;
  for (int shift = 62; shift >= 0; shift -= 2) {
    uint64_t sums[3] = {};  // from each next key on
    for (int64_t i = threadIdx.x; i < c.n; i += blockDim.x) {
      const uint64_t own = choice_key(c.x[i], i), value = measure(c.weight(i));
#pragma unroll
      for (int d = 1; d <= 3; ++d)
        if (own >= (key | static_cast<uint64_t>(d) << shift)) sums[d - 1] += value;
    }
    int digit = 0;
#pragma unroll
    for (int d = 1; d <= 3; ++d)
      if (block_reduce(sums[d - 1], s, plus) >= wanted) digit = d;
    key |= static_cast<uint64_t>(digit) << shift;
  }
  return key;
}

__device__ uint64_t count_of(uint64_t weight) { return weight > 0 ? 1 : 0; }
__device__ uint64_t weight_of(uint64_t weight) { return weight; }

template <class Measure>
__device__ uint64_t total_of(const Choices& c, SamplingStorage& s, Measure measure) {
  uint64_t sum = 0;
  for (int64_t i = threadIdx.x; i < c.n; i += blockDim.x) sum += measure(c.weight(i));
  return block_reduce(sum, s, plus);
}

// The sum of v over the lanes up to this one.
__device__ inline uint64_t inclusive_sum(uint64_t v) {
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const uint64_t before = shuffle(v, lane() >= distance ? lane() - distance : lane());
    if (lane() >= distance) v += before;
  }
  return v;
}

// One warp: the first index of [begin, end) at which the sum of the weights exceeds `target`.
__device__ int64_t index_at(const Choices& c, int64_t begin, int64_t end, uint64_t target) {
  for (int64_t at = begin;; at += kWarp) {
    const int64_t i = at + lane();
    const uint64_t sum = inclusive_sum(i < end ? c.weight(i) : 0);
    const uint32_t found = ballot(sum > target);
    if (found != 0) return at + popcount((found & (0u - found)) - 1u);
    target -= shuffle(sum, kWarp - 1);
  }
}

// One block samples one row: its warps sum a part of it each, then draw one sample each in turn.
__global__ void __launch_bounds__(kLargestBlock)
    multinomial_kernel(Guard guard, int32_t* out, const float* logits, int64_t n, Multinomial a) {
  if (guard.aborted()) return;
  SamplingStorage& s = shared<SamplingStorage>();
  const int64_t row = blockIdx.x;
  Choices c{.x = logits + row * n, .n = n, .max = 0, .inverse_temperature = 0, .least = 0};
  uint64_t largest = 0;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
    largest = larger(largest, choice_key(c.x[i], i));
  largest = block_reduce(largest, s, larger);
  const bool empty = is_empty_choice(largest);
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  if (empty || a.temperature == 0) {
    for (int64_t i = threadIdx.x; i < a.count; i += blockDim.x)
      out[row * a.count + i] = empty ? -1 : static_cast<int32_t>(index_of(largest));
  } else {
    c.max = c.x[index_of(largest)];
    c.inverse_temperature = 1.0f / a.temperature;
    if (a.top_k > 0 && static_cast<uint64_t>(a.top_k) < total_of(c, s, count_of))
      c.least = last_choice(c, static_cast<uint64_t>(a.top_k), s, count_of);
    if (a.top_p < 1)
      c.least = last_choice(c, nucleus_weight(a.top_p, total_of(c, s, weight_of)), s, weight_of);
    const int64_t part = (n + warps - 1) / warps;
    const auto end_of = [&](int64_t w) { return (w + 1) * part < n ? (w + 1) * part : n; };
    uint64_t sum = 0;
    for (int64_t i = warp_of_block() * part + lane(); i < end_of(warp_of_block()); i += kWarp)
      sum += c.weight(i);
    for (int bits = kWarp / 2; bits > 0; bits /= 2) sum += shuffle_xor(sum, bits);
    if (lane() == 0) s.v[warp_of_block()] = sum;
    block_sync();
    uint64_t total = 0;
    for (int w = 0; w < warps; ++w) total += s.v[w];
    for (int64_t sample = warp_of_block(); sample < a.count; sample += warps) {
      uint64_t target = draw(a, row, sample, total);
      int w = 0;
      while (target >= s.v[w]) target -= s.v[w++];
      const int64_t index = index_at(c, w * part, end_of(w), target);
      if (lane() == 0) out[row * a.count + sample] = static_cast<int32_t>(index);
    }
  }
}

}  // namespace

void multinomial(CudaStream& stream, const Multinomial& a) {
  const int64_t n = a.logits.dim(-1), rows = a.logits.size() / n;
  const int threads = n > kThreads ? kLargestBlock : kThreads;
  launch(multinomial_kernel, dim3(grid_width(rows)), dim3(threads), sizeof(SamplingStorage), stream,
         a.out.as<int32_t>(), a.logits.as<float>(), n, a);
}

}  // namespace ml::ML_CUDA_NAMESPACE
