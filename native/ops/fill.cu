// Fill (ops/fill.h), elementwise.

#include "ops/fill.h"

#include "cuda/map.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// out = value
template <class T>
struct FillRule {
  T* out;
  T value;
  template <int n>
  __device__ void at(int64_t i) const {
    Pack<T, n> p;
#pragma unroll
    for (int j = 0; j < n; ++j) p.v[j] = value;
    store<n>(out + i, p);
  }
};

template <class T>
void fill_typed(CudaStream& stream, const View& out, T value) {
  map(stream, FillRule<T>{.out = out.as<T>(), .value = value}, out.size(), aligned<T>(out));
}

}  // namespace

void fill(CudaStream& stream, const Fill& a) {
  const float value = static_cast<float>(a.value);
  switch (a.out.dtype) {
    case DType::f32: return fill_typed(stream, a.out, value);
    case DType::f16: return fill_typed(stream, a.out, to_half(value).bits);
    case DType::bf16: return fill_typed(stream, a.out, to_bfloat16(value).bits);
    case DType::i32: return fill_typed(stream, a.out, static_cast<int32_t>(a.value));
    case DType::i8: return fill_typed(stream, a.out, static_cast<int8_t>(a.value));
    case DType::u8: return fill_typed(stream, a.out, static_cast<uint8_t>(a.value));
  }
}

}  // namespace ml::ML_CUDA_NAMESPACE
