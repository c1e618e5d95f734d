// Activations (ops/activation.h), elementwise.

#include "ops/activation.h"

#include <algorithm>

#include "cuda/activation.cuh"
#include "cuda/map.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// y = f(x)
struct ActivateRule {
  float* y;
  const float* x;
  Activation kind;
  template <int n>
  __device__ void at(int64_t i) const {
    Pack<float, n> p = load<n>(x + i);
#pragma unroll
    for (int j = 0; j < n; ++j) p.v[j] = activate(kind, p.v[j]);
    store<n>(y + i, p);
  }
};

// dx = dy * f'(x)
struct ActivateBackwardRule {
  float* dx;
  const float *dy, *x;
  Activation kind;
  template <int n>
  __device__ void at(int64_t i) const {
    const Pack<float, n> px = load<n>(x + i), pdy = load<n>(dy + i);
    Pack<float, n> p{};
#pragma unroll
    for (int j = 0; j < n; ++j) p.v[j] += pdy.v[j] * activate_derivative(kind, px.v[j]);
    store<n>(dx + i, p);
  }
};

}  // namespace

void activate(CudaStream& stream, const Activate& a) {
  map(stream, ActivateRule{.y = a.y.as<float>(), .x = a.x.as<float>(), .kind = a.kind}, a.x.size(),
      std::min(aligned<float>(a.y), aligned<float>(a.x)));
}

void activate_backward(CudaStream& stream, const ActivateBackward& a) {
  const int n = std::min({aligned<float>(a.dx), aligned<float>(a.dy), aligned<float>(a.x)});
  map(stream,
      ActivateBackwardRule{
          .dx = a.dx.as<float>(), .dy = a.dy.as<float>(), .x = a.x.as<float>(), .kind = a.kind},
      a.x.size(), n);
}

}  // namespace ml::ML_CUDA_NAMESPACE
