#pragma once
// One warp: the index of a thread, shuffles, votes, reductions in a fixed order. All lanes of
// `mask` must call with the same mask, in uniform flow. Shuffles and votes order no memory: lanes
// that exchange data through shared memory need a warp_sync between write and read.

#include <bit>
#include <cstdint>
#include <type_traits>

#include "cuda/namespace.h"
#include "cuda/ptx_redux.cuh"

namespace ml::ML_CUDA_NAMESPACE {

inline constexpr int kWarp = 32;
inline constexpr uint32_t kAllLanes = 0xffffffffu;

__device__ inline int thread_of_block() {
  return static_cast<int>(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
}
__device__ inline int lane() { return thread_of_block() % kWarp; }
__device__ inline int warp_of_block() { return thread_of_block() / kWarp; }

__device__ inline int popcount(uint32_t bits) { return __popc(bits); }
// the first lane of a mask that is not 0
__device__ inline int first_lane(uint32_t mask) { return __ffs(static_cast<int>(mask)) - 1; }
// mask of the lanes before this one
__device__ inline uint32_t lanes_below() { return (1u << lane()) - 1u; }

namespace detail {
template <class T>
using WordOf = std::conditional_t<sizeof(T) == 4, unsigned int, unsigned long long>;
}  // namespace detail

#ifdef ML_SIMT
#define ML_SHUFFLE(intrinsic, operand) \
  static_cast<Word>(::simt::intrinsic(std::bit_cast<Word>(v), operand, mask, site))
#else
#define ML_SHUFFLE(intrinsic, operand) __##intrinsic##_sync(mask, std::bit_cast<Word>(v), operand)
#endif

// T has 4 or 8 bytes. The value of lane `source`.
template <class T>
__device__ inline T shuffle(T v, int source, uint32_t mask = kAllLanes,
                            [[maybe_unused]] CallSite site = CallSite::here()) {
  using Word = detail::WordOf<T>;
  return std::bit_cast<T>(ML_SHUFFLE(shfl, source));
}

// The value of lane (own ^ bits).
template <class T>
__device__ inline T shuffle_xor(T v, int bits, uint32_t mask = kAllLanes,
                                [[maybe_unused]] CallSite site = CallSite::here()) {
  using Word = detail::WordOf<T>;
  return std::bit_cast<T>(ML_SHUFFLE(shfl_xor, bits));
}

#undef ML_SHUFFLE

__device__ inline uint32_t ballot(bool v, uint32_t mask = kAllLanes,
                                  [[maybe_unused]] CallSite site = CallSite::here()) {
#ifdef ML_SIMT
  return ::simt::ballot(v, mask, site);
#else
  return __ballot_sync(mask, v);
#endif
}

__device__ inline bool any(bool v, uint32_t mask = kAllLanes,
                           [[maybe_unused]] CallSite site = CallSite::here()) {
#ifdef ML_SIMT
  return ::simt::ballot(v, mask, site) != 0;
#else
  return __any_sync(mask, v) != 0;
#endif
}

// What lanes of the mask wrote before is seen by them after.
__device__ inline void warp_sync(uint32_t mask = kAllLanes,
                                 [[maybe_unused]] CallSite site = CallSite::here()) {
#ifdef ML_SIMT
  ::simt::warp_sync(mask, site);
#else
  __syncwarp(mask);
#endif
}

// Butterflies over all 32 lanes: the result is bitwise identical in every lane.
__device__ inline float warp_sum(float v, CallSite site = CallSite::here()) {
#pragma unroll
  for (int bits = kWarp / 2; bits > 0; bits /= 2) v += shuffle_xor(v, bits, kAllLanes, site);
  return v;
}
__device__ inline float warp_max(float v, CallSite site = CallSite::here()) {
#pragma unroll
  for (int bits = kWarp / 2; bits > 0; bits /= 2)
    v = fmaxf(v, shuffle_xor(v, bits, kAllLanes, site));
  return v;
}

// Over all 32 lanes, one instruction from sm_80.
__device__ inline uint32_t reduce_max(uint32_t v, CallSite site = CallSite::here()) {
  return redux<Redux::max>(v, site);
}
__device__ inline uint32_t reduce_min(uint32_t v, CallSite site = CallSite::here()) {
  return redux<Redux::min>(v, site);
}

}  // namespace ml::ML_CUDA_NAMESPACE
