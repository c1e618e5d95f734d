#pragma once
// launch(kernel, grid, block, shared_bytes, stream, args…) is the only way to start a kernel. It
// passes the guard of the work at hand as the kernel's first argument, raises the shared memory
// limit where needed, and throws an Error that names the launch when CUDA refuses it.

#include <cstddef>

#include "cuda/fault.cuh"
#include "cuda/namespace.h"

namespace ml::ML_CUDA_NAMESPACE {

class CudaStream;

struct LaunchTarget {
  cudaStream_t stream;
  Guard guard;
};

// Declared here so that kernels need no stream.h (launch.cpp).
LaunchTarget launch_target(CudaStream& stream);
[[noreturn]] void launch_failed(CudaStream& stream, cudaError_t error, dim3 grid, dim3 block,
                                size_t shared_bytes);

inline constexpr size_t kDefaultSharedBytes = 48 * 1024;  // more needs an attribute of the kernel

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Guard, Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            CudaStream& stream, Arguments&&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  const LaunchTarget target = launch_target(stream);
  cudaError_t error = cudaSuccess;
  if (shared_bytes > kDefaultSharedBytes)
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared_bytes));
  if (error == cudaSuccess) {
    const cudaLaunchConfig_t config{grid, block, shared_bytes, target.stream, nullptr, 0};
    error =
        cudaLaunchKernelEx(&config, kernel, target.guard, static_cast<Parameters>(arguments)...);
  }
  if (error != cudaSuccess) launch_failed(stream, error, grid, block, shared_bytes);
}

}  // namespace ml::ML_CUDA_NAMESPACE
