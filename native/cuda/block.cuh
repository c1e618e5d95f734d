#pragma once
// One block: its shared memory, its barrier, reductions in a fixed order; and the
// atomics between blocks.

#include <cstdint>

#include "cuda/namespace.h"
#include "cuda/warp.cuh"

namespace ml::ML_CUDA_NAMESPACE {

// The block's dynamic shared memory, aligned to 128 bytes: as bytes, or as the type whose size was
// given to launch.
__device__ inline char* shared_bytes() {
#ifdef ML_SIMT
  return static_cast<char*>(::simt::shared_memory());
#else
  extern __shared__ __align__(128) char ml_shared_memory[];
  return ml_shared_memory;
#endif
}

template <class T>
__device__ inline T& shared() {
  return *reinterpret_cast<T*>(shared_bytes());
}

// Every thread of the block must call it: none may have returned before.
__device__ inline void block_sync([[maybe_unused]] CallSite site = CallSite::here()) {
#ifdef ML_SIMT
  ::simt::block_sync(site);
#else
  __syncthreads();
#endif
}

// Sum over the block, bitwise identical in every thread. blockDim is a multiple of 32; `scratch`
// has 32 floats in shared memory and is free again when this returns.
__device__ inline float block_sum(float v, float* scratch, CallSite site = CallSite::here()) {
  v = warp_sum(v, site);
  if (lane() == 0) scratch[warp_of_block()] = v;
  block_sync(site);
  const int warps = static_cast<int>(blockDim.x * blockDim.y * blockDim.z) / kWarp;
  v = warp_sum(lane() < warps ? scratch[lane()] : 0.0f, site);
  block_sync(site);
  return v;
}

// As block_sum, of the maximum: fmaxf, so a number wins over a NaN.
__device__ inline float block_max(float v, float* scratch, CallSite site = CallSite::here()) {
  v = warp_max(v, site);
  if (lane() == 0) scratch[warp_of_block()] = v;
  block_sync(site);
  const int warps = static_cast<int>(blockDim.x * blockDim.y * blockDim.z) / kWarp;
  v = warp_max(scratch[lane() < warps ? lane() : 0], site);
  block_sync(site);
  return v;
}

// The smaller of *at and v goes to *at; returns the old value. Relaxed, device scope. There are no
// atomics on floats: a sum of floats must not depend on the order of threads.
__device__ inline uint64_t atomic_min(uint64_t* at, uint64_t v,
                                      [[maybe_unused]] CallSite site = CallSite::here()) {
#ifdef ML_SIMT
  return ::simt::atomic(::simt::Atomic::min, at, sizeof(*at), v, false, site);
#else
  return atomicMin(reinterpret_cast<unsigned long long*>(at), static_cast<unsigned long long>(v));
#endif
}

// Adds to a counter and returns the old value; relaxed, device scope. A sum of integers does not
// depend on the order.
__device__ inline uint32_t atomic_add(uint32_t* at, uint32_t v,
                                      [[maybe_unused]] CallSite site = CallSite::here()) {
#ifdef ML_SIMT
  return static_cast<uint32_t>(::simt::atomic(::simt::Atomic::add, at, 4, v, false, site));
#else
  return atomicAdd(at, v);
#endif
}
__device__ inline void atomic_add(uint64_t* at, uint64_t v,
                                  [[maybe_unused]] CallSite site = CallSite::here()) {
#ifdef ML_SIMT
  ::simt::atomic(::simt::Atomic::add, at, sizeof(*at), v, false, site);
#else
  atomicAdd(reinterpret_cast<unsigned long long*>(at), static_cast<unsigned long long>(v));
#endif
}

// Adds to the counter of a last arriver, with acquire and release: the thread that arrives last
// sees what all earlier ones wrote before they arrived. What the rest of a block wrote, or reads,
// is ordered by a block_sync before, or after.
__device__ inline uint32_t atomic_add_acq_rel(uint32_t* at, uint32_t v,
                                              [[maybe_unused]] CallSite site = CallSite::here()) {
#ifdef ML_SIMT
  return static_cast<uint32_t>(::simt::atomic(::simt::Atomic::add, at, 4, v, true, site));
#else
  __threadfence();
  const uint32_t old = atomicAdd(at, v);
  __threadfence();
  return old;
#endif
}

}  // namespace ml::ML_CUDA_NAMESPACE
