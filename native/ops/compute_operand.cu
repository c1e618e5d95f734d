// Operands in the type of a product (ops/compute_operand.cuh), elementwise.

#include "ops/compute_operand.cuh"

#include <vector>

#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tensor_list.cuh"
#include "cuda/vec.cuh"
#include "ops/copy.h"

namespace ml::ML_CUDA_NAMESPACE {

void copy(CudaStream& stream, const Copy& a);  // ops/copy.cu

namespace {

struct RoundedTensor {
  BFloat16* out;
  const void* in;
  bool half;  // float16, else float32
  bool vec4;
};

template <class T>
__device__ inline void round_chunk(const RoundedTensor& t, int64_t begin, int64_t end) {
  for_packs(t.vec4, begin, end, [&]<int n>(int64_t i, Width<n>) {
    float v[n];
    widen(v, load<n>(static_cast<const T*>(t.in) + i));
    store<n>(t.out + i, narrow<BFloat16>(v));
  });
}

// One block rounds every gridDim-th chunk of all tensors.
__global__ void __launch_bounds__(kThreads)
    round_operands_kernel(Guard guard, TensorList<RoundedTensor> list) {
  if (guard.aborted()) return;
  for_chunks(list, kListChunk, [](const RoundedTensor& t, int64_t, int64_t begin, int64_t end) {
    if (t.half) {
      round_chunk<Half>(t, begin, end);
    } else {
      round_chunk<float>(t, begin, end);
    }
  });
}

void round_operands(CudaStream& stream, std::initializer_list<View*> views) {
  std::vector<Listed<RoundedTensor>> tensors;
  for (View* v : views) {
    if (!v || v->dtype == DType::bf16) continue;
    const bool half = v->dtype == DType::f16;
    auto* out = stream.scratch<BFloat16>(v->size());
    const bool vec4 = half ? has_packs_of_four(v->as<Half>()) : has_packs_of_four(v->as<float>());
    tensors.push_back({{.out = out, .in = v->data, .half = half, .vec4 = vec4}, v->size()});
    v->dtype = DType::bf16;
    v->data = out;
  }
  launch_lists<RoundedTensor>(
      stream, kListChunk, tensors, [](const Listed<RoundedTensor>& t) { return t; },
      [&](const TensorList<RoundedTensor>& list, dim3 grid, int64_t) {
        launch(round_operands_kernel, grid, dim3(kThreads), 0, stream, list);
      });
}

}  // namespace

View operand_as(CudaStream& stream, const View& v, DType dtype) {
  if (v.dtype == dtype) return v;
  View copied = v;
  copied.dtype = dtype;
  copied.data = stream.scratch<char>(copied.bytes());
  copy(stream, {.out = copied, .in = v});
  return copied;
}

void compute_operands(CudaStream& stream, Compute compute, std::initializer_list<View*> views) {
  if (compute == Compute::bfloat16) round_operands(stream, views);
  if (compute == Compute::tf32)
    for (View* v : views)
      if (v) *v = operand_as(stream, *v, DType::f32);
}

}  // namespace ml::ML_CUDA_NAMESPACE
