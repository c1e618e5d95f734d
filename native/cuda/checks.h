#pragma once
// The stream's own kernels: checks of indices and offsets, the replay of recorded graphs, and small
// copies.

#include "cuda/fault_site.h"
#include "cuda/stream.h"

namespace ml::ML_CUDA_NAMESPACE {

// The lowest position of values[0 … n) that breaks the site's rule fails the check; `number`: of
// the site among those of its work.
void enqueue_check(CudaStream& stream, const FaultSite& site, uint32_t number, uint32_t check,
                   const int32_t* values, int64_t n);

// The checks of these bits have not failed. kAllChecks: at the very beginning
void enqueue_clear(CudaStream& stream, uint32_t checks);

// Around a recorded graph: its work is void where the replay depends on a check that has failed,
// and what fails inside is the failure of `check`.
void enqueue_replay_begin(CudaStream& stream);
void enqueue_replay_end(CudaStream& stream, uint32_t check);

// target[0 … bytes) = source[0 … bytes) from host memory, in the arguments of kernels: for few
// bytes.
void enqueue_upload(CudaStream& stream, void* target, const void* source, int64_t bytes);

}  // namespace ml::ML_CUDA_NAMESPACE
