// SumSquares, SparseSquares and ClipScale (optim/clip.h): the norm of gradients, and their scaling
// by it. All of it in double, but for the gradient of a row.

#include "optim/clip.h"

#include "cuda/block_sum.cuh"
#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tensor_list.cuh"
#include "cuda/tuning.h"
#include "cuda/vec.cuh"
#include "ops/sparse_grad.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// One block sums every gridDim-th chunk of all tensors; thread t the elements t, t + kThreads, …
// of it.
__global__ void __launch_bounds__(kThreads)
    partial_squares_kernel(Guard guard, double* partials, TensorList<const float*> list) {
  if (guard.aborted()) return;
  for_chunks(list, kClipChunk, [&](const float* x, int64_t chunk, int64_t begin, int64_t end) {
    double sum = 0;
    for (int64_t i = begin + threadIdx.x; i < end; i += kThreads)
      sum += static_cast<double>(x[i]) * x[i];
    sum = block_sum_f64(sum);
    if (threadIdx.x == 0) partials[chunk] = sum;
  });
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
      add_squares(sum, g);
    }
    sum = group_sum(group, sum);
    if (r >= 0 && group.lane == 0) squares[r] = sum;
  });
}

// One block adds the partial sums, `count` of them or as many as the device knows; thread t those
// of t, t + kThreads, … `add`: to what *total is.
__global__ void __launch_bounds__(kThreads)
    total_squares_kernel(Guard guard, double* total, bool add, const double* partials,
                         int64_t count, const int32_t* rows) {
  if (guard.aborted()) return;
  const int64_t n = rows ? rows[0] : count;
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += kThreads) sum += partials[i];
  sum = block_sum_f64(sum);
  if (threadIdx.x == 0) *total = add ? *total + sum : sum;
}

struct ScaledTensor {
  float* x;
  bool vec4;
};

// One block scales every gridDim-th chunk of all tensors; the first also writes the norm.
__global__ void __launch_bounds__(kThreads)
    clip_scale_kernel(Guard guard, TensorList<ScaledTensor> list, float* norm_out,
                      const double* sums, int64_t count, double max_norm) {
  if (guard.aborted()) return;
  const double norm = sqrt(total_of(sums, count));
  const double factor = clip_factor(norm, max_norm);
  if (blockIdx.x == 0 && threadIdx.x == 0) *norm_out = static_cast<float>(norm);
  if (factor == 1.0) return;
  for_chunks(list, kListChunk, [&](const ScaledTensor& t, int64_t, int64_t begin, int64_t end) {
    for_packs(t.vec4, begin, end, [&]<int n>(int64_t i, Width<n>) {
      Pack<float, n> p = load<n>(t.x + i);
#pragma unroll
      for (int e = 0; e < n; ++e) p.v[e] = static_cast<float>(p.v[e] * factor);
      store<n>(t.x + i, p);
    });
  });
}

}  // namespace

void sum_squares(CudaStream& stream, const SumSquares& a) {
  int64_t chunks = 0;
  for (const View& x : a.xs) chunks += (x.size() + kClipChunk - 1) / kClipChunk;
  double* partials = stream.scratch<double>(chunks);
  launch_lists<const float*>(
      stream, kClipChunk, a.xs,
      [](const View& x) { return Listed<const float*>{x.as<float>(), x.size()}; },
      [&](const TensorList<const float*>& list, dim3 grid, int64_t first) {
        launch(partial_squares_kernel, grid, dim3(kThreads), sizeof(BlockSumStorage), stream,
               partials + first, list);
      });
  launch(total_squares_kernel, dim3(1), dim3(kThreads), sizeof(BlockSumStorage), stream,
         a.sum.as<double>(), false, partials, chunks, nullptr);
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
         a.sum.as<double>(), true, squares, capacity, a.count.as<int32_t>());
}

void clip_scale(CudaStream& stream, const ClipScale& a) {
  const auto scale = [&](const TensorList<ScaledTensor>& list, dim3 grid, int64_t) {
    launch(clip_scale_kernel, grid, dim3(kThreads), 0, stream, list, a.norm.as<float>(),
           a.sum.as<double>(), a.sum.size() / 2, a.max_norm);
  };
  bool empty = true;
  for (const View& x : a.xs) empty = empty && x.size() == 0;
  if (empty) return scale({}, dim3(1), 0);  // the norm
  launch_lists<ScaledTensor>(
      stream, kListChunk, a.xs,
      [](const View& x) {
        return Listed<ScaledTensor>{{.x = x.as<float>(), .vec4 = has_packs_of_four(x.as<float>())},
                                    x.size()};
      },
      scale);
}

}  // namespace ml::ML_CUDA_NAMESPACE
