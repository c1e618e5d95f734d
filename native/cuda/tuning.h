#pragma once
// Block sizes and thresholds of all kernels, each with its reason. The same for every architecture:
// `npm run bench:kernels -- --check` compiles them for each and limits spills and sectors moved to
// those of bench/kernels/budgets.json. "Multiprocessor" is an SM.

#include <cstddef>
#include <cstdint>

#include "cuda/namespace.h"

namespace ml::ML_CUDA_NAMESPACE {

// ---- Blocks and grids
constexpr int kThreads = 256;        // of a block, where nothing else is needed: eight warps
constexpr int kLargestBlock = 1024;  // threads
constexpr int kBlocksPerMultiprocessor = 8;  // of a grid-stride grid: 2048 threads, all that fit
constexpr int64_t kMaxBlocks = 2147483647;   // gridDim.x
constexpr int64_t kMaxBatches = 65535;       // gridDim.z

[[noreturn]] void fail_too_many_blocks(int64_t blocks);  // launch.cpp

// gridDim.x, which has a limit.
constexpr unsigned grid_width(int64_t blocks) {
  if (blocks > kMaxBlocks) fail_too_many_blocks(blocks);
  return static_cast<unsigned>(blocks);
}

// Blocks for `items` at `per_block` each.
constexpr unsigned blocks_for(int64_t items, int64_t per_block) {
  return grid_width((items + per_block - 1) / per_block);
}

// Blocks of a grid-stride grid: enough to fill the device, not more than there is work.
constexpr unsigned striding_blocks(int64_t items, int64_t per_block, int multiprocessors) {
  const int64_t blocks = (items + per_block - 1) / per_block,
                max = int64_t{multiprocessors} * kBlocksPerMultiprocessor;
  return static_cast<unsigned>(blocks < max ? blocks : max);
}

// ---- Elementwise kernels (cuda/map.cuh, cuda/checks.cu)
constexpr int kPacksPerThread = 2;
constexpr int kCheckedValuesPerThread = 8;
constexpr int64_t kUploadChunk = 2048;  // bytes in one kernel's arguments, of 4096

// ---- Many tensors in one launch (cuda/tensor_list.cuh)
constexpr int kListBytes = 4000;         // of a list: with the rest it fits 4 KB of arguments
constexpr int64_t kListChunk = 1 << 12;  // elements of one tensor: four packs of each thread

// ---- Rows (cuda/rows.cuh)
// floats of one row, or of two together, in a thread's registers: with all else they fit 64
constexpr int kRowRegisters = 32;
constexpr int kRowLoadsInFlight = 8;  // of a thread, without a branch between them

// ---- Sums of columns (cuda/column_sums.cuh)
constexpr int kColumnSumsWarps = 8;
constexpr int kColumnSumsRows = 256;  // of a chunk: 32 for each warp

// ---- Reductions over axes (ops/reduce.cu)
constexpr int kReduceLaneElements = 32;  // of a contiguous chunk
constexpr int kReduceMinBlocks = 4;      // of a multiprocessor: bounds the registers to 64

// ---- Matrix products (cuda/gemm.cuh, cuda/matrix_product.cuh)
// By FMA a thread has 64 sums: with operands and addresses they fit the 128 registers that it then
// has. By tensor cores it has as many of 32 rows of a warp, and double of 64.
constexpr int kFmaThreadsPerMultiprocessor = 512;
template <int kWarpRows>
constexpr int kMmaThreadsPerMultiprocessor = kWarpRows == 64 ? 256 : 384;
constexpr int kStages = 3;  // of the shared-memory ring: two tiles in flight behind the one in use
constexpr int kLargeTile = 128, kSmallTile = 64;  // rows and columns of C for one block
// fewer large tiles than this leave multiprocessors idle
constexpr int64_t kLargeTilesPerMultiprocessor = 1;
// K is split until so many threads work: 500 and more on each of 132 or 142 multiprocessors
constexpr int64_t kTargetThreads = 1 << 17;
constexpr int64_t kMinSplitDepth = 256, kMaxSplits = 64;  // of K
// The last block of a tile adds so few splits; of more it would read so much alone that a launch is
// quicker.
constexpr int64_t kFusedSplits = 4;

// ---- Products with few rows (cuda/few_rows_product.cuh)
constexpr int kFewRows = 16;
// Rows and columns of a block at most: 32 sums of a thread, with operands in 128 registers. More
// rows read W again, from L2.
constexpr int kFewRowsOfBlock = 8, kFewRowsColumns = 4;
constexpr int kFewRowsMinBlocks = 2;  // of a multiprocessor: 128 registers

// ---- Bags (ops/embedding_bag.cu)
// With fewer bags than this their entries are cut into chunks, so that the device is not idle. The
// number of chunks depends on the shape alone, not on the device or the width: bitwise identical
// results on every device, and in every column shard.
constexpr int64_t kFewBags = 512;
constexpr int64_t kMinChunkEntries = 16;  // of the average bag

// ---- PEER (ops/peer.cu)
constexpr int kPeerMinBlocks = 2;  // of a multiprocessor: registers for all rows in flight

// ---- Sparse gradients and updates (ops/sparse_grad.cu, optim/sparse_update.cu)
constexpr int kMaxReadsPerLaunch = 16;  // their description is an argument of the kernel
// Floats of a row that a warp has in registers at once, 32 of a lane, with as many of the table.
constexpr int kWholeRow = 1024;
// Parts of the reads by which rows are visited (ops/row_visits.cuh): two of them are a seventh of
// dy, and their pairs are eight bits, one pass of the sort.
constexpr int kTokenBlocks = 15;
// Rows that a lane group updates one after the other where every row of the table is: the touched
// ones among them are found by one search.
constexpr int kRowsPerChunk = 16;
// Blocks of a multiprocessor: bounds the registers, which have all rows in flight, and in updates
// the row and its states too.
constexpr int kSparseGradMinBlocks = 3, kSparseUpdateMinBlocks = 2;

// ---- Dense updates (optim/dense_update.cu)
constexpr int kDenseUpdateMinBlocks = 3;  // of a multiprocessor: bounds the registers to 80

// ---- Top-k (ops/topk.cu)
constexpr int kTopKWarps = 4;            // of a block
constexpr int64_t kMaxListK = 1024;      // k of the lists, which then take 32 KB; else a sort
constexpr int64_t kMinTopKChunk = 1024;  // elements of a row for one warp
constexpr int64_t kTopKWarpsPerMultiprocessor = 16;  // rows are cut until so many warps work

// ---- Product-key lookup (ops/half_lists.cuh, ops/product_key_lookup.cu)
constexpr int kKeyColumns = 128;  // half-keys of a tile
// Tokens of a tile. A large one has four warps in 48 KB of shared memory, so that a multiprocessor
// of 100 KB holds two, and each key is read for 64 tokens.
constexpr int kLargeTileTokens = 64, kSmallTileTokens = 32;
constexpr int kHalfListsStages = 2;     // of its ring: a third would make it larger than the scores
constexpr int kHalfListsMinBlocks = 3;  // of a multiprocessor: more would spill registers
constexpr int kCombineWarps = 4;        // of a block
constexpr int kCombineMinBlocks = 8;    // of a multiprocessor: bounds the registers
// shared memory of a block; longer lists work in global memory
constexpr size_t kCombineSharedBytes = 48 << 10;
constexpr int64_t kCombineWarpsPerMultiprocessor = 8;  // of those in global memory

// ---- Its gradient (ops/half_key_gradients.cuh, ops/product_key_dkeys.cuh)
// largest k whose equal half-keys are merged: the search takes k * k / 32 steps of a warp
constexpr int64_t kMaxMergedK = 128;
constexpr int kRowsInFlight = 4;     // loads of a warp
constexpr int kDkeysMinBlocks = 4;   // of a multiprocessor: registers for those loads
constexpr int64_t kFewEntries = 64;  // of a half-key on average: one warp sums them, else a block

// ---- Attention (ops/attention.cu, ops/attention_backward.cu)
// Rows of a tile, by the width of a head: with scores and ring they fit the 64 KB of shared memory
// that every architecture has.
template <int kWidth>
constexpr int kAttentionQueries = kWidth <= 64 ? 64 : 4096 / kWidth;
template <int kWidth>
constexpr int kAttentionBackwardRows = kWidth <= 64 ? 32 : 16;

// ---- Rotary embedding (ops/rope.cu)
constexpr int kRopeHeads = 4;  // of a thread, which computes their angles once

// ---- Causal convolution (ops/causal_conv1d.cu)
constexpr int kConvOutputs = 8;     // of a thread: with width 4 a token is read 11/8 times
constexpr int kConvTaps = 32;       // of all channels of a block in shared memory, 4 KB
constexpr int kConvTapsAtOnce = 4;  // of dweight in a thread's registers

}  // namespace ml::ML_CUDA_NAMESPACE
