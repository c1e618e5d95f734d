// GroupedLinear (ops/grouped_linear.h): products of groups of rows over tiles, and sums of columns
// of each group for dbias.

#include "ops/grouped_linear.h"

#include "cuda/column_sums.cuh"
#include "cuda/launch.cuh"
#include "cuda/matrix_product.cuh"
#include "cuda/stream.h"
#include "ops/compute_operand.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

template <class T>
void forward(CudaStream& stream, const GroupedLinear& a, RowGroups groups) {
  const int64_t rows = a.x.dim(0), out = a.weights.dim(1), in = a.weights.dim(2);
  multiply<true, true, T, T>(stream, {.c = a.y.as<float>(),
                                      .ldc = out,
                                      .a = Operand<T>::of(a.x.as<T>(), in),
                                      .b = Operand<T>::of(a.weights.as<T>(), in),
                                      .M = rows,
                                      .N = out,
                                      .K = in,
                                      .bias = a.bias ? a.bias.as<float>() : nullptr,
                                      .accumulate = false,
                                      .b_batch = out * in,
                                      .groups = groups});
}

template <class D, class T>
void backward(CudaStream& stream, const GroupedLinearBackward& a, RowGroups groups) {
  const int64_t rows = a.x.dim(0), out = a.weights.dim(1), in = a.weights.dim(2);
  const Operand<D> dy = Operand<D>::of(a.dy.as<D>(), out);
  if (a.dx)
    multiply<true, false, D, T>(stream, {.c = a.dx.as<float>(),
                                         .ldc = in,
                                         .a = dy,
                                         .b = Operand<T>::of(a.weights.as<T>(), in),
                                         .M = rows,
                                         .N = in,
                                         .K = out,
                                         .bias = nullptr,
                                         .accumulate = false,
                                         .b_batch = out * in,
                                         .groups = groups});
  groups.of = RowGroups::Of::depth;
  if (a.dweights)
    multiply<false, false, D, T>(stream, {.c = a.dweights.as<float>(),
                                          .ldc = in,
                                          .a = dy,
                                          .b = Operand<T>::of(a.x.as<T>(), in),
                                          .M = out,
                                          .N = in,
                                          .K = rows,
                                          .bias = nullptr,
                                          .accumulate = true,
                                          .c_batch = out * in,
                                          .groups = groups});
}

// One block sums 32 columns of one group: one thread one column of every eighth row of a chunk; the
// first warp adds the eight sums in order, and those of the chunks in float64.
__global__ void __launch_bounds__(kColumnSumsWarps* kWarp)
    group_column_sums_kernel(Guard guard, float* to, const float* dy, RowGroups groups,
                             int64_t columns) {
  if (guard.aborted()) return;
  ColumnSumsStorage& s = shared<ColumnSumsStorage>();
  const int64_t column_blocks = (columns + kWarp - 1) / kWarp;
  const int64_t group = blockIdx.x / column_blocks;
  const int64_t column = blockIdx.x % column_blocks * kWarp + lane();  // [0, columns) and past it
  const int64_t begin = groups.offsets[group], end = groups.offsets[group + 1];
  double total = 0;
  for (int64_t chunk = begin; chunk < end; chunk += kColumnSumsRows) {
    const int64_t last = chunk + kColumnSumsRows < end ? chunk + kColumnSumsRows : end;
    float sum = 0;
    if (column < columns)
      for (int64_t r = chunk + warp_of_block(); r < last; r += kColumnSumsWarps)
        sum += dy[r * columns + column];
    s.v[warp_of_block()][lane()] = sum;
    block_sync();
    if (warp_of_block() == 0) {
      sum = s.v[0][lane()];
      for (int w = 1; w < kColumnSumsWarps; ++w) sum += s.v[w][lane()];
      total += sum;
    }
    block_sync();
  }
  if (warp_of_block() == 0 && column < columns && begin < end) {
    float* sum = to + group * columns + column;
    *sum = static_cast<float>(*sum + total);
  }
}

}  // namespace

void grouped_linear(CudaStream& stream, const GroupedLinear& args) {
  GroupedLinear a = args;
  stream.check_offsets("groupedLinear", a.offsets, a.x.dim(0));
  const RowGroups groups{.offsets = a.offsets.as<int32_t>(), .count = a.weights.dim(0)};
  compute_operands(stream, a.compute, {&a.x, &a.weights});
  dispatch_operand(a.compute, a.x.dtype, [&](auto t) { forward<decltype(t)>(stream, a, groups); });
}

void grouped_linear_backward(CudaStream& stream, const GroupedLinearBackward& a) {
  const int64_t rows = a.x.dim(0), out = a.weights.dim(1);
  stream.check_offsets("groupedLinearBackward", a.offsets, rows);
  const RowGroups groups{.offsets = a.offsets.as<int32_t>(), .count = a.weights.dim(0)};
  if (a.compute == Compute::float32) {
    dispatch_float(a.x.dtype, [&](auto t) { backward<float, decltype(t)>(stream, a, groups); });
  } else {
    GroupedLinearBackward rounded = a;
    compute_operands(stream, a.compute,
                     {a.dx || a.dweights ? &rounded.dy : nullptr, a.dx ? &rounded.weights : nullptr,
                      a.dweights ? &rounded.x : nullptr});
    a.compute == Compute::tf32 ? backward<TensorFloat32, TensorFloat32>(stream, rounded, groups)
                               : backward<BFloat16, BFloat16>(stream, rounded, groups);
  }
  if (!a.dbias || rows == 0 || out == 0) return;
  const int64_t blocks = groups.count * ((out + kWarp - 1) / kWarp);
  launch(group_column_sums_kernel, dim3(grid_width(blocks)), dim3(kColumnSumsWarps * kWarp),
         sizeof(ColumnSumsStorage), stream, a.dbias.as<float>(), a.dy.as<float>(), groups, out);
}

}  // namespace ml::ML_CUDA_NAMESPACE
