#pragma once
// Reduction of a 32-bit number over the 32 lanes of a warp (redux, from sm_80).

#include <cstdint>

#include "cuda/namespace.h"

namespace ml::ML_CUDA_NAMESPACE {

enum class Redux { min, max };

template <Redux kind>
__device__ inline uint32_t redux(uint32_t v, [[maybe_unused]] CallSite site = CallSite::here()) {
#ifdef ML_SIMT
  return ::simt::redux(kind == Redux::min ? ::simt::Redux::min : ::simt::Redux::max, v, site);
#elif __CUDA_ARCH__ >= 800
  if constexpr (kind == Redux::min) return __reduce_min_sync(0xffffffffu, v);
  return __reduce_max_sync(0xffffffffu, v);
#else
#pragma unroll
  for (int bits = 16; bits > 0; bits /= 2) {
    const uint32_t other = __shfl_xor_sync(0xffffffffu, v, bits);
    v = kind == Redux::min ? min(v, other) : max(v, other);
  }
  return v;
#endif
}

}  // namespace ml::ML_CUDA_NAMESPACE
