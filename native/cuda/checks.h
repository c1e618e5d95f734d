#pragma once
// The stream's own kernels: checks of indices and offsets, the failures in recorded graphs, and
// small copies.

#include "cuda/fault_site.h"
#include "cuda/stream.h"

namespace ml::ML_CUDA_NAMESPACE {

// The lowest position of values[0 … n) that breaks the site's rule fails the check; `number`: of
// the site among those of its work.
void enqueue_check(CudaStream& stream, const FaultSite& site, uint32_t number, uint32_t check,
                   const int32_t* values, int64_t n);

// The checks of these bits have not failed. kAllChecks: at the very beginning
void enqueue_clear(CudaStream& stream, uint32_t checks);

// What has failed in a graph, by its own checks, has failed on the stream by those of the map.
void enqueue_failures(CudaStream& stream, const CheckState* graph, const CheckMap& map);

// target[0 … bytes) = source[0 … bytes) from host memory, in the arguments of kernels: for few
// bytes.
void enqueue_upload(CudaStream& stream, void* target, const void* source, int64_t bytes);

}  // namespace ml::ML_CUDA_NAMESPACE
