#pragma once
// The stream's own kernels: checks of indices and offsets, the fault record, and copies that are
// void after a fault.

#include "cuda/fault_site.h"
#include "cuda/stream.h"

namespace ml::ML_CUDA_NAMESPACE {

// The lowest position of values[0 … n) that breaks the site's rule raises the fault.
void enqueue_check(CudaStream& stream, const FaultSite& site, uint32_t number, uint64_t ticket,
                   const int32_t* values, int64_t n);

void enqueue_clear(CudaStream& stream);  // clears the fault record

// Faults of a recorded graph belong to this ticket from here on.
void enqueue_replay(CudaStream& stream, uint64_t ticket);

// target[0 … bytes) = source[0 … bytes), both on the device
void enqueue_copy(CudaStream& stream, void* target, const void* source, int64_t bytes);

// The same from host memory, in the arguments of kernels: for few bytes. `fresh`: also
// after a fault.
void enqueue_upload(CudaStream& stream, void* target, const void* source, int64_t bytes,
                    bool fresh);

}  // namespace ml::ML_CUDA_NAMESPACE
