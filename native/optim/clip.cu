// SumSquares, SparseSquares and ClipScale (optim/clip.h): the norm of gradients, and their scaling
// by it. All of it in double, but for the gradient of a row.

#include "optim/clip.h"

#include <algorithm>

#include "cuda/block_sum.cuh"
#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"
#include "ops/sparse_grad.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// One block sums every gridDim-th chunk; thread t the elements t, t + kThreads, … of it.
__global__ void __launch_bounds__(kThreads)
    partial_squares_kernel(Guard guard, double* partials, const float* x, int64_t n) {
  if (guard.aborted()) return;
  for (int64_t chunk = blockIdx.x; chunk * kClipChunk < n; chunk += gridDim.x) {
    const int64_t end = (chunk + 1) * kClipChunk < n ? (chunk + 1) * kClipChunk : n;
    double sum = 0;
    for (int64_t i = chunk * kClipChunk + threadIdx.x; i < end; i += kThreads)
      sum += static_cast<double>(x[i]) * x[i];
    sum = block_sum_f64(sum);
    if (threadIdx.x == 0) partials[chunk] = sum;
  }
}

// One lane group sums the squares of every gridDim-th touched row, slice by slice.
template <class Slice>
__global__ void __launch_bounds__(kThreads, kSparseUpdateMinBlocks)
    row_squares_kernel(Guard guard, double* squares, ResolvedRows t, Slicing slicing) {
  if (guard.aborted()) return;
  const LaneGroup group = lane_group(slicing.lanes);
  const int64_t R = t.count[0];
  for_rows(group, R, [&](int64_t r) {
    double sum = 0;
    for (int k = 0; k < slicing.slices; ++k) {
      Slice g;
      row_gradient(g, t, group, r, Slice::column(group, k));
#pragma unroll
      for (int v = 0; v < Slice::vectors; ++v)
#pragma unroll
        for (int e = 0; e < Slice::n; ++e) sum += static_cast<double>(g.v[v][e]) * g.v[v][e];
    }
    sum = group_sum(group, sum);
    if (r >= 0 && group.lane == 0) squares[r] = sum;
  });
}

// One block adds the partial sums, `count` of them or as many as the device knows; thread t those
// of t, t + kThreads, …
__global__ void __launch_bounds__(kThreads)
    total_squares_kernel(Guard guard, double* total, const double* partials, int64_t count,
                         const int32_t* rows) {
  if (guard.aborted()) return;
  const int64_t n = rows ? rows[0] : count;
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += kThreads) sum += partials[i];
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
  const int64_t size = a.x.size(), chunks = (size + kClipChunk - 1) / kClipChunk;
  double* partials = stream.scratch<double>(chunks);
  launch(partial_squares_kernel, dim3(striding_blocks(chunks, 1, stream.limits().multiprocessors)),
         dim3(kThreads), sizeof(BlockSumStorage), stream, partials, a.x.as<float>(), size);
  launch(total_squares_kernel, dim3(1), dim3(kThreads), sizeof(BlockSumStorage), stream,
         a.sum.as<double>(), partials, chunks, nullptr);
}

void sparse_squares(CudaStream& stream, const SparseSquares& a) {
  const int64_t capacity = a.rows.dim(0);
  const ResolvedRows t = resolve_rows(stream, a.rows, a.starts, a.order, a.count, a.reads, a.width);
  double* squares = stream.scratch<double>(capacity);
  with_gradient_slice(vec4_aligned(a.reads, a.width), a.width, [&]<class Slice>(Slice, Slicing s) {
    const dim3 grid(striding_blocks(capacity, kThreads / s.lanes, stream.limits().multiprocessors));
    launch(row_squares_kernel<Slice>, grid, dim3(kThreads), 0, stream, squares, t, s);
  });
  launch(total_squares_kernel, dim3(1), dim3(kThreads), sizeof(BlockSumStorage), stream,
         a.sum.as<double>(), squares, capacity, a.count.as<int32_t>());
}

void clip_scale(CudaStream& stream, const ClipScale& a) {
  const int64_t size = a.x ? a.x.size() : 0;
  launch(clip_scale_kernel,
         dim3(std::max(1u, striding_blocks(size, kThreads, stream.limits().multiprocessors))),
         dim3(kThreads), 0, stream, a.x ? a.x.as<float>() : nullptr,
         a.norm ? a.norm.as<float>() : nullptr, a.sum.as<double>(), a.max_norm, size);
}

}  // namespace ml::ML_CUDA_NAMESPACE
