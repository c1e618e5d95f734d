// SumSquares and ClipScale: the norm of all gradients, and their scaling by it.

#include "optim/clip.h"

#include <algorithm>

#include "cuda/block.cuh"
#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

struct BlockSums {
  double of_warp[kThreads / kWarp];
};

// The sum over the block, warps in order; every thread gets it.
__device__ inline double block_total(double x) {
  for (int bit = kWarp / 2; bit > 0; bit /= 2) x += shuffle_xor(x, bit);
  BlockSums& s = shared<BlockSums>();
  block_sync();  // whoever still reads the sums of the time before
  if (lane() == 0) s.of_warp[warp_of_block()] = x;
  block_sync();
  double total = 0;
  for (int w = 0; w < kThreads / kWarp; ++w) total += s.of_warp[w];
  return total;
}

// Elements there are: `width` a row where the rows are counted on the device.
__device__ inline int64_t elements(int64_t size, const int32_t* count, int64_t width) {
  return count ? int64_t{count[0]} * width : size;
}

// A block sums every gridDim-th piece; thread t its elements t, t + 256, …
__global__ void __launch_bounds__(kThreads)
    square_pieces_kernel(Guard guard, double* partials, const float* x, const int32_t* count,
                         int64_t size, int64_t width) {
  if (guard.aborted()) return;
  const int64_t n = elements(size, count, width);
  for (int64_t piece = blockIdx.x; piece * kClipChunk < n; piece += gridDim.x) {
    const int64_t end = (piece + 1) * kClipChunk < n ? (piece + 1) * kClipChunk : n;
    double sum = 0;
    for (int64_t i = piece * kClipChunk + threadIdx.x; i < end; i += kThreads)
      sum += static_cast<double>(x[i]) * x[i];
    sum = block_total(sum);
    if (threadIdx.x == 0) partials[piece] = sum;
  }
}

// One block adds the pieces: thread t numbers t, t + 256, …
__global__ void __launch_bounds__(kThreads)
    add_pieces_kernel(Guard guard, float* out, const double* partials, const int32_t* count,
                      int64_t size, int64_t width) {
  if (guard.aborted()) return;
  const int64_t n = elements(size, count, width);
  double sum = 0;
  for (int64_t piece = threadIdx.x; piece * kClipChunk < n; piece += kThreads)
    sum += partials[piece];
  sum = block_total(sum);
  if (threadIdx.x == 0) *out = static_cast<float>(*out + sum);
}

// A thread scales every (256 gridDim)-th element; the first also writes the norm.
__global__ void __launch_bounds__(kThreads)
    clip_scale_kernel(Guard guard, float* x, float* norm_out, const float* sum, float max_norm,
                      int64_t size) {
  if (guard.aborted()) return;
  const float norm = sqrtf(*sum);
  const float scale = clip_factor(norm, max_norm);
  const int64_t first = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (norm_out && first == 0) *norm_out = norm;
  for (int64_t i = first; i < size; i += int64_t{gridDim.x} * kThreads) x[i] *= scale;
}

}  // namespace

void sum_squares(CudaStream& stream, const SumSquares& a) {
  const int64_t size = a.x.size(), pieces = (size + kClipChunk - 1) / kClipChunk,
                width = a.count ? a.x.dim(1) : 0;
  const int32_t* count = a.count ? a.count.as<int32_t>() : nullptr;
  double* partials = stream.scratch<double>(pieces);
  launch(square_pieces_kernel, dim3(striding_blocks(pieces, 1, stream.limits().multiprocessors)),
         dim3(kThreads), sizeof(BlockSums), stream, partials, a.x.as<float>(), count, size, width);
  launch(add_pieces_kernel, dim3(1), dim3(kThreads), sizeof(BlockSums), stream, a.out.as<float>(),
         partials, count, size, width);
}

void clip_scale(CudaStream& stream, const ClipScale& a) {
  const int64_t size = a.x ? a.x.size() : 0;
  launch(clip_scale_kernel,
         dim3(std::max(1u, striding_blocks(size, kThreads, stream.limits().multiprocessors))),
         dim3(kThreads), 0, stream, a.x ? a.x.as<float>() : nullptr,
         a.norm ? a.norm.as<float>() : nullptr, a.sum.as<float>(), a.max_norm, size);
}

}  // namespace ml::ML_CUDA_NAMESPACE
