// Fill and FillEach (ops/fill.h), elementwise.

#include "ops/fill.h"

#include <bit>

#include "cuda/map.cuh"
#include "cuda/tensor_list.cuh"

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

// A tensor of 4-byte elements, filled with these bits.
struct FilledTensor {
  uint32_t* out;
  uint32_t bits;
  bool vec4;
};

// One block fills every gridDim-th chunk of all tensors.
__global__ void __launch_bounds__(kThreads)
    fill_each_kernel(Guard guard, TensorList<FilledTensor> list) {
  if (guard.aborted()) return;
  for_chunks(list, kListChunk, [](const FilledTensor& t, int64_t, int64_t begin, int64_t end) {
    for_packs(t.vec4, begin, end, [&]<int n>(int64_t i, Width<n>) {
      Pack<uint32_t, n> p;
#pragma unroll
      for (int j = 0; j < n; ++j) p.v[j] = t.bits;
      store<n>(t.out + i, p);
    });
  });
}

}  // namespace

void fill_each(CudaStream& stream, const FillEach& a) {
  launch_lists<FilledTensor>(
      stream, kListChunk, a.fills,
      [](const Fill& f) {
        const bool floats = f.out.dtype == DType::f32;
        return Listed<FilledTensor>{
            {.out = f.out.as<uint32_t>(),
             .bits = floats ? std::bit_cast<uint32_t>(static_cast<float>(f.value))
                            : static_cast<uint32_t>(static_cast<int32_t>(f.value)),
             .vec4 = has_packs_of_four(f.out.as<uint32_t>())},
            f.out.size()};
      },
      [&](const TensorList<FilledTensor>& list, dim3 grid, int64_t) {
        launch(fill_each_kernel, grid, dim3(kThreads), 0, stream, list);
      });
}

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
