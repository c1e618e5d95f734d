// Backward of the product-key lookup (ops/product_key_lookup.h): half_key_gradients.cuh brings the
// gradient from the weights to the half-keys, product_key_dkeys.cuh from there to dkeys, and one
// warp gathers one row of dquery.

#include "ops/compute_operand.cuh"
#include "ops/product_key_dkeys.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// One warp computes one row of dquery [TH, 2, d], a slice of 32 * kVec columns at a time.
template <class T, int kVec>
__global__ void __launch_bounds__(kThreads)
    dquery_kernel(Guard guard, float* dquery, HalfKeyGradients g, const T* keys, int64_t H,
                  int64_t d) {
  if (guard.aborted()) return;
  // [0, 2 TH) and past it
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kThreads / kWarp) + warp_of_block();
  if (row >= 2 * g.TH) return;                         // whole warps
  const T* own_keys = keys + row % (2 * H) * g.n * d;  // (h, p) of (t, h, p)
  for (int64_t column0 = 0; column0 < d; column0 += kWarp * kVec) {
    const int64_t column = column0 + lane() * kVec;
    float sum[kVec] = {};
    for (int64_t base = 0; base < g.k; base += kWarp) {
      const int64_t at = row * g.k + base + lane();
      const int32_t half_key = base + lane() < g.k ? g.half_keys[at] : -1;
      const int count = popcount(ballot(half_key >= 0));
      if (count == 0) break;
      add_rows(sum, own_keys + column, d, half_key < 0 ? int64_t{0} : half_key,
               half_key < 0 ? 0.0f : g.values[at], count, column < d);
    }
    if (column < d) {
      Pack<float, kVec> out;
#pragma unroll
      for (int e = 0; e < kVec; ++e) out.v[e] = sum[e];
      store<kVec>(dquery + row * d + column, out);
    }
  }
}

template <class T, int kVec>
void input_gradients(CudaStream& stream, const ProductKeyLookupBackward& a,
                     const HalfKeyGradients& g) {
  const int64_t H = a.query.dim(1), d = a.query.dim(3);
  if (a.dquery)
    launch(dquery_kernel<T, kVec>, dim3(blocks_for(2 * g.TH, kThreads / kWarp)), dim3(kThreads), 0,
           stream, a.dquery.as<float>(), g, a.keys.as<T>(), H, d);
  if (a.dkeys) add_dkeys<T, kVec>(stream, g, a.dkeys, a.query);
}

}  // namespace

void product_key_lookup_backward(CudaStream& stream, const ProductKeyLookupBackward& args) {
  ProductKeyLookupBackward a = args;
  compute_operands(stream, a.compute, {&a.query, &a.keys});
  const int64_t T = a.query.dim(0), H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2),
                k = a.weights.dim(2);
  if (a.weights.size() == 0) return;
  if (!a.indices_known)
    stream.check_indices("productKeyLookupBackward", "lookup.indices", a.indices, n * n);
  const int64_t TH = T * H, entries = a.winners_known && k <= kMaxMergedK ? k + 1 : 2 * k;
  const HalfKeyGradients g{.values = stream.scratch<float>(TH * 2 * k),
                           .half_keys = stream.scratch<int32_t>(TH * 2 * k),
                           .pairs = a.dkeys ? stream.scratch<uint64_t>(TH * entries) : nullptr,
                           .dweights = a.dweights.as<float>(),
                           .weights = a.weights.as<float>(),
                           .scores = a.scores.as<float>(),
                           .indices = a.indices.as<int32_t>(),
                           .TH = TH,
                           .H = H,
                           .k = k,
                           .n = n,
                           .entries = entries,
                           .bits = entry_bits(TH, k),
                           .gate = a.gate};
  half_key_gradients(stream, g);
  dispatch_operand(a.compute, a.query.dtype, [&](auto t) {
    using Element = decltype(t);
    const bool vec4 = widest(a.query.as<Element>(), d) % 4 == 0 &&
                      widest(a.keys.as<Element>(), d) % 4 == 0 &&
                      (!a.dquery || widest(a.dquery.as<float>(), d) % 4 == 0) &&
                      (!a.dkeys || widest(a.dkeys.as<float>(), d) % 4 == 0);
    vec4 ? input_gradients<Element, 4>(stream, a, g) : input_gradients<Element, 1>(stream, a, g);
  });
}

}  // namespace ml::ML_CUDA_NAMESPACE
