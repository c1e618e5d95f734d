#pragma once
// Sizes of blocks and thresholds that more than one operation uses. Those of one operation stand in
// its .cu file, each with a reason.

#include <cstdint>

#include "cuda/namespace.h"

namespace ml::ML_CUDA_NAMESPACE {

// of a block, where nothing asks for another number: eight warps
constexpr int kThreads = 256;
constexpr int kLargestBlock = 1024;  // threads
// of a grid that strides over its work: 2048 threads, all that fit
constexpr int kBlocksPerProcessor = 8;
constexpr int64_t kMostBlocks = 2147483647;  // gridDim.x

// Blocks for `items` at `per_block` each.
constexpr unsigned blocks_for(int64_t items, int64_t per_block) {
  const int64_t blocks = (items + per_block - 1) / per_block;
  return static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks);
}

// Blocks of a grid that strides: enough to fill the device, not more than there is work.
constexpr unsigned striding_blocks(int64_t items, int64_t per_block, int multiprocessors) {
  const int64_t blocks = (items + per_block - 1) / per_block,
                most = int64_t{multiprocessors} * kBlocksPerProcessor;
  return static_cast<unsigned>(blocks < most ? blocks : most);
}

}  // namespace ml::ML_CUDA_NAMESPACE
