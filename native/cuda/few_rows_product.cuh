#pragma once
// y[R, out] = x[R, in] W[out, in]^T (+ bias) for few rows: W is read once, at the speed of memory,
// and the tiles of gemm.cuh would be nearly empty. The depth is cut among the threads of a block,
// which add their sums in a fixed order, so that no sums go through global memory. Who has which
// depths follows from `in` alone, and so do the bits.

#include "cuda/block.cuh"
#include "cuda/lane_group.cuh"
#include "cuda/launch.cuh"
#include "cuda/rounded_float.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {

template <class A, class B>
struct FewRowsProduct {
  float* y;
  const A* x;
  const B* weight;
  const float* bias;  // [out], or nullptr
  int64_t rows, in, out;
};

namespace {

// The depths that a thread takes at once, 16 bytes of the wider operand.
template <class A, class B>
constexpr int kDepthsOfThread =
    16 / static_cast<int>(sizeof(A) > sizeof(B) ? sizeof(A) : sizeof(B));

template <int kRows>
struct FewRowsStorage {
  static constexpr int kSums = kRows * kFewRowsColumns;
  static_assert(kSums <= kWarp);
  float v[kThreads / kWarp][kSums];
};

// Elements first … first + n of a run of `length` as floats, zeros past its end and where not
// `inside`. kVec: the run can be read in packs of n.
template <bool kVec, int n, class T>
__device__ inline void load_run(float (&to)[n], const T* run, int64_t first, int64_t length,
                                bool inside) {
  if constexpr (kVec) {
    widen(to, load_if<n>(inside, run + first));
  } else {
#pragma unroll
    for (int e = 0; e < n; ++e)
      to[e] = widen(load_if<1>(inside && first + e < length, run + first + e).v[0]);
  }
}

// One block: kRows rows (blockIdx.y) and kFewRowsColumns columns of y.
template <int kRows, bool kVec, class A, class B>
__global__ void __launch_bounds__(kThreads, kFewRowsMinBlocks)
    few_rows_kernel(Guard guard, FewRowsProduct<A, B> p) {
  if (guard.aborted()) return;
  constexpr int n = kDepthsOfThread<A, B>, kColumns = kFewRowsColumns, kSums = kRows * kColumns;
  const int64_t row0 = int64_t{blockIdx.y} * kRows, column0 = int64_t{blockIdx.x} * kColumns;
  float sum[kSums] = {};  // of row r and column c: r * kColumns + c
  for (int64_t k = int64_t{threadIdx.x} * n; k < p.in; k += int64_t{blockDim.x} * n) {
    float w[kColumns][n];
#pragma unroll
    for (int c = 0; c < kColumns; ++c)
      load_run<kVec>(w[c], p.weight + (column0 + c) * p.in, k, p.in, column0 + c < p.out);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float x[n];
      load_run<kVec>(x, p.x + (row0 + r) * p.in, k, p.in, row0 + r < p.rows);
#pragma unroll
      for (int c = 0; c < kColumns; ++c)
#pragma unroll
        for (int e = 0; e < n; ++e)
          sum[r * kColumns + c] = fmaf(x[e], w[c][e], sum[r * kColumns + c]);
    }
  }
  FewRowsStorage<kRows>& s = shared<FewRowsStorage<kRows>>();
  const float of_warp = group_sums(lane_group(kWarp), sum);  // of sum lane / kLanes
  constexpr int kLanes = kWarp / kSums;
  if (lane() % kLanes == 0) s.v[warp_of_block()][lane() / kLanes] = of_warp;
  block_sync();
  const int i = static_cast<int>(threadIdx.x);
  const int64_t row = row0 + i / kColumns, column = column0 + i % kColumns;
  if (i >= kSums || row >= p.rows || column >= p.out) return;
  float total = s.v[0][i];
  for (int w = 1; w < static_cast<int>(blockDim.x) / kWarp; ++w) total += s.v[w][i];
  p.y[row * p.out + column] = p.bias ? total + p.bias[column] : total;
}

template <int kRows, bool kVec, class A, class B>
void launch_few_rows(CudaStream& stream, const FewRowsProduct<A, B>& p) {
  const int64_t depths = kWarp * kDepthsOfThread<A, B>, warps = (p.in + depths - 1) / depths,
                most = kThreads / kWarp;
  const auto threads = static_cast<unsigned>((warps < 1 ? 1 : warps < most ? warps : most) * kWarp);
  launch(few_rows_kernel<kRows, kVec, A, B>,
         dim3(blocks_for(p.out, kFewRowsColumns), blocks_for(p.rows, kRows)), dim3(threads),
         sizeof(FewRowsStorage<kRows>), stream, p);
}

// p.rows <= kFewRows
template <class A, class B>
void multiply_few_rows(CudaStream& stream, const FewRowsProduct<A, B>& p) {
  if (p.rows == 0 || p.out == 0) return;
  constexpr int n = kDepthsOfThread<A, B>;
  if (widest(p.x, p.in) < n || widest(p.weight, p.in) < n)
    return launch_few_rows<4, false>(stream, p);  // the loads of 8 rows don't fit registers
  if (p.rows == 1) return launch_few_rows<1, true>(stream, p);
  p.rows <= 4 ? launch_few_rows<4, true>(stream, p)
              : launch_few_rows<kFewRowsOfBlock, true>(stream, p);
}

}  // namespace
}  // namespace ml::ML_CUDA_NAMESPACE
