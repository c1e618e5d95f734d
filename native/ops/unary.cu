// exp, log, sqrt and tanh (ops/unary.h), elementwise.

#include "ops/unary.h"

#include <algorithm>

#include "cuda/map.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

__device__ inline float apply(UnaryKind kind, float x) {
  switch (kind) {
    case UnaryKind::exp: return expf(x);
    case UnaryKind::log: return logf(x);
    case UnaryKind::sqrt: return sqrtf(x);
    case UnaryKind::tanh: break;
  }
  return tanhf(x);
}

// y = f(x)
struct UnaryRule {
  float* y;
  const float* x;
  UnaryKind kind;
  template <int n>
  __device__ void at(int64_t i) const {
    Pack<float, n> p = load<n>(x + i);
#pragma unroll
    for (int j = 0; j < n; ++j) p.v[j] = apply(kind, p.v[j]);
    store<n>(y + i, p);
  }
};

}  // namespace

void unary(CudaStream& stream, const Unary& a) {
  map(stream, UnaryRule{.y = a.y.as<float>(), .x = a.x.as<float>(), .kind = a.kind}, a.x.size(),
      std::min(aligned<float>(a.y), aligned<float>(a.x)));
}

}  // namespace ml::ML_CUDA_NAMESPACE
