#pragma once
// One block: its shared memory, its barrier, reductions in a fixed order; and atomics between
// blocks.

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

// Every thread of the block must come; none may have returned before.
__device__ inline void block_sync([[maybe_unused]] CallSite site = CallSite::here()) {
#ifdef ML_SIMT
  ::simt::block_sync(site);
#else
  __syncthreads();
#endif
}

// Sum over the block, the same bits in every thread. The block is whole warps; `scratch` has 32
// floats in shared memory and is free again when this returns.
__device__ inline float block_sum(float v, float* scratch, CallSite site = CallSite::here()) {
  v = warp_sum(v, site);
  if (lane() == 0) scratch[warp_of_block()] = v;
  block_sync(site);
  const int warps = static_cast<int>(blockDim.x * blockDim.y * blockDim.z) / kWarp;
  v = warp_sum(lane() < warps ? scratch[lane()] : 0.0f, site);
  block_sync(site);
  return v;
}

// As block_sum; fmaxf: a NaN loses against a number.
__device__ inline float block_max(float v, float* scratch, CallSite site = CallSite::here()) {
  v = warp_max(v, site);
  if (lane() == 0) scratch[warp_of_block()] = v;
  block_sync(site);
  const int warps = static_cast<int>(blockDim.x * blockDim.y * blockDim.z) / kWarp;
  v = warp_max(scratch[lane() < warps ? lane() : 0], site);
  block_sync(site);
  return v;
}

// Atomics on device memory, relaxed, device scope; each returns the old value. There is none for
// floats: sums of floats must not depend on the order in which threads come.
#ifdef ML_SIMT
#define ML_ATOMIC(name, type, operation, intrinsic)                                   \
  __device__ inline type name(type* at, type v, CallSite site = CallSite::here()) {   \
    return static_cast<type>(                                                         \
        ::simt::atomic(::simt::Atomic::operation, at, sizeof(type), v, false, site)); \
  }
#else
#define ML_ATOMIC(name, type, operation, intrinsic)                                         \
  __device__ inline type name(type* at, type v, CallSite = CallSite::here()) {              \
    using Word = detail::WordOf<type>;                                                      \
    return static_cast<type>(intrinsic(reinterpret_cast<Word*>(at), static_cast<Word>(v))); \
  }
#endif
ML_ATOMIC(atomic_add, int32_t, add, atomicAdd)
ML_ATOMIC(atomic_add, uint32_t, add, atomicAdd)
ML_ATOMIC(atomic_add, uint64_t, add, atomicAdd)
ML_ATOMIC(atomic_min, uint32_t, min, atomicMin)
ML_ATOMIC(atomic_min, uint64_t, min, atomicMin)
ML_ATOMIC(atomic_max, uint32_t, max, atomicMax)
ML_ATOMIC(atomic_max, uint64_t, max, atomicMax)
ML_ATOMIC(atomic_or, uint32_t, or_bits, atomicOr)
ML_ATOMIC(atomic_exchange, uint32_t, exchange, atomicExch)
ML_ATOMIC(atomic_exchange, uint64_t, exchange, atomicExch)
#undef ML_ATOMIC

// A read that may meet an atomic of another block.
__device__ inline uint32_t atomic_load(const uint32_t* at,
                                       [[maybe_unused]] CallSite site = CallSite::here()) {
#ifdef ML_SIMT
  return static_cast<uint32_t>(
      ::simt::atomic(::simt::Atomic::load, const_cast<uint32_t*>(at), 4, 0, false, site));
#else
  return *static_cast<const volatile uint32_t*>(at);
#endif
}

// For the counter of a last arriver: what this thread wrote (and, after a block_sync, what its
// block wrote) before is seen by who comes later; it sees what they wrote who came before, and its
// block after a block_sync.
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
