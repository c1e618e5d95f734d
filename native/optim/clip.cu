// SumSquares and ClipScale (optim/clip.h): the norm of all gradients, and their scaling by it.
// All of it in double.

#include "optim/clip.h"

#include <algorithm>

#include "cuda/block.cuh"
#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

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

// The number of elements: `width` for each row where the device has the number of rows.
__device__ inline int64_t elements(int64_t size, const int32_t* count, int64_t width) {
  return count ? int64_t{count[0]} * width : size;
}

// One block sums every gridDim-th chunk; thread t the elements t, t + kThreads, … of it.
__global__ void __launch_bounds__(kThreads)
    partial_squares_kernel(Guard guard, double* partials, const float* x, const int32_t* count,
                           int64_t size, int64_t width) {
  if (guard.aborted()) return;
  const int64_t n = elements(size, count, width);
  for (int64_t chunk = blockIdx.x; chunk * kClipChunk < n; chunk += gridDim.x) {
    const int64_t end = (chunk + 1) * kClipChunk < n ? (chunk + 1) * kClipChunk : n;
    double sum = 0;
    for (int64_t i = chunk * kClipChunk + threadIdx.x; i < end; i += kThreads)
      sum += static_cast<double>(x[i]) * x[i];
    sum = block_sum_f64(sum);
    if (threadIdx.x == 0) partials[chunk] = sum;
  }
}

// One block adds the partial sums; thread t those of chunks t, t + kThreads, …
__global__ void __launch_bounds__(kThreads)
    total_squares_kernel(Guard guard, double* total, const double* partials, const int32_t* count,
                         int64_t size, int64_t width) {
  if (guard.aborted()) return;
  const int64_t n = elements(size, count, width);
  double sum = 0;
  for (int64_t chunk = threadIdx.x; chunk * kClipChunk < n; chunk += kThreads)
    sum += partials[chunk];
  sum = block_sum_f64(sum);
  if (threadIdx.x == 0) *total += sum;
}

// One thread scales every (gridDim.x * kThreads)-th element; the first also writes the norm.
__global__ void __launch_bounds__(kThreads)
    clip_scale_kernel(Guard guard, float* x, float* norm_out, const double* sum, double max_norm,
                      int64_t size) {
  if (guard.aborted()) return;
  const double norm = sqrt(*sum);
  const double factor = clip_factor(norm, max_norm);
  const int64_t first = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (norm_out && first == 0) *norm_out = static_cast<float>(norm);
  if (factor == 1.0) return;
  for (int64_t i = first; i < size; i += int64_t{gridDim.x} * kThreads)
    x[i] = static_cast<float>(x[i] * factor);
}

}  // namespace

void sum_squares(CudaStream& stream, const SumSquares& a) {
  const int64_t size = a.x.size(), chunks = (size + kClipChunk - 1) / kClipChunk,
                width = a.count ? a.x.dim(1) : 0;
  const int32_t* count = a.count ? a.count.as<int32_t>() : nullptr;
  double* partials = stream.scratch<double>(chunks);
  launch(partial_squares_kernel, dim3(striding_blocks(chunks, 1, stream.limits().multiprocessors)),
         dim3(kThreads), sizeof(BlockSumStorage), stream, partials, a.x.as<float>(), count, size,
         width);
  launch(total_squares_kernel, dim3(1), dim3(kThreads), sizeof(BlockSumStorage), stream,
         a.sum.as<double>(), partials, count, size, width);
}

void clip_scale(CudaStream& stream, const ClipScale& a) {
  const int64_t size = a.x ? a.x.size() : 0;
  launch(clip_scale_kernel,
         dim3(std::max(1u, striding_blocks(size, kThreads, stream.limits().multiprocessors))),
         dim3(kThreads), 0, stream, a.x ? a.x.as<float>() : nullptr,
         a.norm ? a.norm.as<float>() : nullptr, a.sum.as<double>(), a.max_norm, size);
}

}  // namespace ml::ML_CUDA_NAMESPACE
