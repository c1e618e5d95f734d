#pragma once
// Operations on the rows of a matrix [rows, n]: one warp a row where rows are short, one block a row where they are long.

#include "cuda/block.cuh"
#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

constexpr int64_t kLongRow = 2048;  // elements: from here on a block, 8 of them for each thread at least

// What the threads of one row share. kTeam: 32 or kThreads of them.
template <int kTeam>
struct RowTeam {
  int64_t row, n;  // n is 0 past the last row: threads stay for the reductions
  int first;       // this thread's first element; then every kTeam-th

  __device__ RowTeam(int64_t rows, int64_t length) {
    row = static_cast<int64_t>(blockIdx.x) * (kThreads / kTeam) + threadIdx.x / kTeam;
    n = row < rows ? length : 0;
    first = static_cast<int>(threadIdx.x) % kTeam;
  }
  __device__ bool leads() const { return first == 0 && n > 0; }

  template <class F>
  __device__ float sum(F term) const {
    float s = 0;
    for (int64_t i = first; i < n; i += kTeam) s += term(i);
    if constexpr (kTeam == kWarp) return warp_sum(s);
    else return block_sum(s, reinterpret_cast<float*>(shared_bytes()));
  }
  template <class F>
  __device__ float greatest(F term) const {
    float m = -INFINITY;
    for (int64_t i = first; i < n; i += kTeam) m = fmaxf(m, term(i));
    if constexpr (kTeam == kWarp) return warp_max(m);
    else return block_max(m, reinterpret_cast<float*>(shared_bytes()));
  }
  template <class F>
  __device__ void each(F f) const {
    for (int64_t i = first; i < n; i += kTeam) f(i);
  }
};

// short_kernel is the instance for kTeam = 32, long_kernel for kThreads.
template <class Kernel, class... Arguments>
void launch_rows(Kernel short_kernel, Kernel long_kernel, int64_t rows, int64_t n, CudaStream& stream, const Arguments&... arguments) {
  if (rows == 0) return;
  if (n < kLongRow) {
    launch(short_kernel, dim3(blocks_for(rows, kThreads / kWarp)), dim3(kThreads), 0, stream, arguments...);
  } else {
    launch(long_kernel, dim3(static_cast<unsigned>(rows)), dim3(kThreads), kWarp * sizeof(float), stream, arguments...);
  }
}

}  // namespace
}  // namespace ml::ML_CUDA_NAMESPACE
