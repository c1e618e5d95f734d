// Dropout (ops/dropout.h), four elements for each counter.

#include "ops/dropout.h"

#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"
#include "cuda/vec.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// One thread takes every (gridDim.x * blockDim.x)-th four elements. `vec4`: they are aligned in
// both tensors, so that four elements are one access.
__global__ void __launch_bounds__(kThreads)
    dropout_kernel(Guard guard, float* out, const float* x, DropoutNumbers own,
                   const uint32_t* numbers, uint32_t threshold, float scale, int64_t size,
                   bool vec4) {
  if (guard.aborted()) return;
  const auto [seed, step] = dropout_numbers(own, numbers);
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t g = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; 4 * g < size; g += stride) {
    const Random4 random = philox(static_cast<uint64_t>(g), seed, RandomUse::dropout, step);
    if (vec4 && size - 4 * g >= 4) {
      Pack<float, 4> p = load<4>(x + 4 * g);
#pragma unroll
      for (int j = 0; j < 4; ++j) p.v[j] = random.word[j] < threshold ? 0.0f : p.v[j] * scale;
      store<4>(out + 4 * g, p);
    } else {
#pragma unroll
      for (int j = 0; j < 4; ++j)
        if (4 * g + j < size)
          out[4 * g + j] = random.word[j] < threshold ? 0.0f : x[4 * g + j] * scale;
    }
  }
}

bool is_vec4(const float* p) { return reinterpret_cast<uintptr_t>(p) % (4 * sizeof(float)) == 0; }

}  // namespace

void dropout(CudaStream& stream, const Dropout& a) {
  const float* x = a.x.as<float>();
  float* out = a.out.as<float>();
  const unsigned grid = striding_blocks(a.x.size(), 4 * kThreads, stream.limits().multiprocessors);
  launch(dropout_kernel, dim3(grid), dim3(kThreads), 0, stream, out, x,
         DropoutNumbers{a.seed, a.step}, a.numbers ? a.numbers.as<uint32_t>() : nullptr,
         dropout_threshold(a.p), dropout_scale(a.p), a.x.size(), is_vec4(x) && is_vec4(out));
}

}  // namespace ml::ML_CUDA_NAMESPACE
