#pragma once
// The last block to arrive: it adds what the others have left in global memory, which would take a
// launch of its own otherwise. Who is last depends on the run, what it adds and in which order does
// not.

#include "cuda/block.cuh"
#include "cuda/fault.cuh"

namespace ml::ML_CUDA_NAMESPACE {

// In shared memory.
struct LastBlock {
  bool is_last;
};

// True in every thread of the last of `blocks` blocks that call it with this counter, in [0,
// kArrivals). It sees what all of them have stored before. The counter is then 0 again.
__device__ inline bool arrives_last(const Guard& guard, LastBlock& shared, uint32_t counter,
                                    uint32_t blocks, CallSite site = CallSite::here()) {
  block_sync(site);
  if (threadIdx.x == 0) {
    uint32_t* arrived = guard.arrivals() + counter;
    shared.is_last = atomic_add_acq_rel(arrived, 1u, site) == blocks - 1;
    if (shared.is_last) *arrived = 0;
  }
  block_sync(site);
  return shared.is_last;
}

}  // namespace ml::ML_CUDA_NAMESPACE
