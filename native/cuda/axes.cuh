#pragma once
// Positions along axes (core/axes.h) on the device.

#include <cstdint>

#include "core/axes.h"
#include "cuda/namespace.h"

namespace ml::ML_CUDA_NAMESPACE {

// i / by of numbers that are not negative: a 64-bit division takes several times as long as one of
// 32 bits.
__device__ inline int64_t quotient(int64_t i, int64_t by) {
  if (((i | by) >> 32) == 0) return static_cast<uint32_t>(i) / static_cast<uint32_t>(by);
  return i / by;
}

// The element of each tensor at the i-th index of the first `axes` axes.
template <int kTensors>
__device__ inline void offsets_of(const Loops<kTensors>& loops, int axes, int64_t i,
                                  int64_t (&offset)[kTensors]) {
#pragma unroll
  for (int t = 0; t < kTensors; ++t) offset[t] = 0;
  for (int axis = axes - 1; axis >= 0; --axis) {
    const int64_t outer = axis == 0 ? 0 : quotient(i, loops.size[axis]),
                  index = i - outer * loops.size[axis];
#pragma unroll
    for (int t = 0; t < kTensors; ++t) offset[t] += index * loops.stride[t][axis];
    i = outer;
  }
}

}  // namespace ml::ML_CUDA_NAMESPACE
