// Random numbers (ops/random_fill.h), four for each counter. Compiled without fused multiply-add,
// so that the numbers are bitwise identical on every device.

#include "ops/random_fill.h"

#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"
#include "cuda/vec.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// One thread makes every (gridDim.x * blockDim.x)-th four elements, one counter each. `vec4`: they
// are aligned, so that four elements are one store.
template <class T>
__global__ void random_fill_kernel(Guard guard, T* out, RandomFill a, int64_t size, bool vec4) {
  if (guard.aborted()) return;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t g = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; 4 * g < size; g += step) {
    float values[4];
    random4(a, static_cast<uint64_t>(g), values);
    const Pack<T, 4> pack = narrow<T>(values);
    const int64_t left = size - 4 * g;
    if (vec4 && left >= 4) {
      store<4>(out + 4 * g, pack);
    } else {
      for (int j = 0; j < 4; ++j)
        if (j < left) out[4 * g + j] = pack.v[j];
    }
  }
}

// One thread makes every (gridDim.x * blockDim.x)-th element.
template <class T>
__global__ void random_columns_kernel(Guard guard, T* out, RandomFill a, int64_t size,
                                      int64_t columns) {
  if (guard.aborted()) return;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < size; i += step)
    out[i] = from_float<T>(random_of_columns(a, columns, i));
}

}  // namespace

void random_fill(CudaStream& stream, const RandomFill& a) {
  const int64_t size = a.out.size();
  if (a.width > 0) {
    const unsigned blocks = striding_blocks(size, kThreads, stream.limits().multiprocessors);
    dispatch_float(a.out.dtype, [&](auto type) {
      using T = decltype(type);
      launch(random_columns_kernel<T>, blocks, kThreads, 0, stream, a.out.as<T>(), a, size,
             a.out.dim(1));
    });
    return;
  }
  const unsigned grid = striding_blocks(size, 4 * kThreads, stream.limits().multiprocessors);
  dispatch_float(a.out.dtype, [&](auto type) {
    using T = decltype(type);
    T* out = a.out.as<T>();
    launch(random_fill_kernel<T>, grid, kThreads, 0, stream, out, a, size,
           reinterpret_cast<uintptr_t>(out) % (4 * sizeof(T)) == 0);
  });
}

}  // namespace ml::ML_CUDA_NAMESPACE
