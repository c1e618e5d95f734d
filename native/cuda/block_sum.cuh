#pragma once
// Sums of float64 over a block of kThreads threads.

#include "cuda/block.cuh"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// The dynamic shared memory that it takes.
struct BlockSumStorage {
  double warp_sums[kThreads / kWarp];
};

// The sum over the block, its warps in order; every thread gets it.
__device__ inline double block_sum_f64(double x) {
  for (int bit = kWarp / 2; bit > 0; bit /= 2) x += shuffle_xor(x, bit);
  BlockSumStorage& s = shared<BlockSumStorage>();
  block_sync();  // threads may still read the sums of the last call
  if (lane() == 0) s.warp_sums[warp_of_block()] = x;
  block_sync();
  double total = 0;
  for (int w = 0; w < kThreads / kWarp; ++w) total += s.warp_sums[w];
  return total;
}

}  // namespace
}  // namespace ml::ML_CUDA_NAMESPACE
