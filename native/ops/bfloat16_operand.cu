// Operands that are rounded to bfloat16 (ops/bfloat16_operand.cuh), elementwise.

#include "ops/bfloat16_operand.cuh"

#include <algorithm>
#include <vector>

#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tensor_list.cuh"
#include "cuda/vec.cuh"

namespace ml::ML_CUDA_NAMESPACE {
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

}  // namespace

void round_operands(CudaStream& stream, std::initializer_list<View*> views) {
  std::vector<Listed<RoundedTensor>> tensors;
  for (View* v : views) {
    if (!v || v->dtype == DType::bf16) continue;
    const bool half = v->dtype == DType::f16;
    auto* out = stream.scratch<BFloat16>(v->size());
    const int aligned = half ? widest<Half>(reinterpret_cast<uintptr_t>(v->data), 4)
                             : widest<float>(reinterpret_cast<uintptr_t>(v->data), 4);
    tensors.push_back({{.out = out, .in = v->data, .half = half, .vec4 = aligned == 4}, v->size()});
    v->dtype = DType::bf16;
    v->data = out;
  }
  launch_lists<RoundedTensor>(
      stream, kListChunk, tensors, [](const Listed<RoundedTensor>& t) { return t; },
      [&](const TensorList<RoundedTensor>& list, dim3 grid, int64_t) {
        launch(round_operands_kernel, grid, dim3(kThreads), 0, stream, list);
      });
}

}  // namespace ml::ML_CUDA_NAMESPACE
