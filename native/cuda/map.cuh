#pragma once
// Elementwise kernels.

#include <algorithm>

#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"
#include "cuda/vec.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// `template <int n> Rule::at(i)` does the work on n elements from i on. One thread takes every
// (gridDim.x * blockDim.x)-th pack of n; the last elements, fewer than n, are taken one by one.
template <int n, class Rule>
__global__ void map_kernel(Guard guard, Rule rule, int64_t size) {
  if (guard.aborted()) return;
  const int64_t step = int64_t{gridDim.x} * blockDim.x,
                first = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int64_t packs = size / n;
  for (int64_t p = first; p < packs; p += step) rule.template at<n>(p * n);
  for (int64_t i = packs * n + first; i < size; i += step) rule.template at<1>(i);
}

// `aligned`: elements that one access may have, as all tensors of the rule are aligned.
template <class Rule>
void map(CudaStream& stream, const Rule& rule, int64_t size, int aligned) {
  const auto start = [&](auto kernel, int n) {
    const unsigned grid = striding_blocks(size, int64_t{kThreads} * kPacksPerThread * n,
                                          stream.limits().multiprocessors);
    launch(kernel, grid, kThreads, 0, stream, rule, size);
  };
  if (aligned >= 4) return start(map_kernel<4, Rule>, 4);
  start(map_kernel<1, Rule>, 1);
}

// n such that n elements at this address can be one access
template <class T>
int aligned(const View& v) {
  return widest<T>(reinterpret_cast<uintptr_t>(v.data), int64_t{16});
}

}  // namespace
}  // namespace ml::ML_CUDA_NAMESPACE
