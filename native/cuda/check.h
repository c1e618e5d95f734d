#pragma once
// Every call of the CUDA runtime goes through check_cuda(): a failure is an Error that
// names the call.

#include <cuda_runtime.h>

#include <string>

#include "core/error.h"
#include "cuda/namespace.h"

namespace ml::ML_CUDA_NAMESPACE {

inline Error error_of(cudaError_t status, const char* call) {
  const std::string text = std::string(call) + ": " + cudaGetErrorString(status) + " (" +
                           cudaGetErrorName(status) + ").";
  if (status == cudaErrorMemoryAllocation)
    return Error(Code::out_of_memory,
                 text + "\n  Dispose tensors that are no longer needed, or use a smaller table.");
  return Error(Code::cuda, text);
}

// check_cuda(cudaStreamCreate(&stream), "cudaStreamCreate")
inline void check_cuda(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();  // clears an error that is not sticky
  throw error_of(status, call);
}

}  // namespace ml::ML_CUDA_NAMESPACE
