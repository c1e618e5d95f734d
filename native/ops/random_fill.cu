#include "ops/random_fill.h"

#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"
#include "cuda/vec.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// A thread makes every (gridDim.x * blockDim.x)-th group of four elements: one counter each. Compiled without fused multiplication.
template <class T>
__global__ void random_fill_kernel(Guard guard, T* out, RandomFill a, int64_t size) {
  if (guard.closed()) return;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t g = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; 4 * g < size; g += step) {
    float four[4];
    random4(a, static_cast<uint64_t>(g), four);
    const int64_t left = size - 4 * g;
    for (int j = 0; j < 4; ++j)
      if (j < left) out[4 * g + j] = narrow<T>(four[j]);
  }
}

}  // namespace

void random_fill(CudaStream& stream, const RandomFill& a) {
  const int64_t size = a.out.size();
  const unsigned grid = striding_blocks(size, 4 * kThreads, stream.limits().multiprocessors);
  dispatch_float(a.out.dtype, [&](auto type) {
    using T = decltype(type);
    launch(random_fill_kernel<T>, grid, kThreads, 0, stream, a.out.as<T>(), a, size);
  });
}

}  // namespace ml::ML_CUDA_NAMESPACE
