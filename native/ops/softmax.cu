// Softmax (ops/softmax.h): a row group computes one row.

#include "ops/softmax.h"

#include "ops/softmax_row.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// One row group computes one row of y.
template <class Group>
__global__ void __launch_bounds__(Group::kBlock, Group::kMinBlocks)
    softmax_kernel(Guard guard, float* y, const float* x, int64_t rows, int64_t n) {
  if (guard.aborted()) return;
  const Group group(rows, n);
  SoftmaxRow<Group> row(group, x + group.row * n);
  row.store(y + group.row * n, [&](float e, int64_t) { return e / row.sum; });
}

// One row group computes one row of dx.
template <class Group>
__global__ void __launch_bounds__(Group::kBlock, Group::kMinBlocks)
    softmax_backward_kernel(Guard guard, float* dx, const float* dy, const float* y, int64_t rows,
                            int64_t n) {
  if (guard.aborted()) return;
  const Group group(rows, n);
  const int64_t at = group.row * n;
  typename Group::Registers d, v;
  const auto load = [&](int64_t begin) {
    group.load(d, dy + at, begin);
    group.load(v, y + at, begin);
  };
  float sum = 0;
  group.for_chunks([&](int64_t begin) {
    load(begin);
    group.for_loaded(begin, [&](int i) { sum += d[i] * v[i]; });
  });
  sum = group.sum(sum);
  group.for_chunks([&](int64_t begin) {
    if constexpr (!Group::kCachesRow) load(begin);
    group.store(dx + at, begin, [&](int i, int64_t) { return v[i] * (d[i] - sum); });
  });
}

}  // namespace

void softmax(CudaStream& stream, const Softmax& a) {
  const int64_t rows = rows_of(a.x), n = a.x.dim(-1);
  launch_rows<kRowRegisters>(
      rows, n, stream, []<class Group>(Group) { return softmax_kernel<typename Group::type>; },
      a.y.as<float>(), a.x.as<float>(), rows, n);
}

void softmax_backward(CudaStream& stream, const SoftmaxBackward& a) {
  const int64_t rows = rows_of(a.y), n = a.y.dim(-1);
  launch_rows<kRowRegisters / 2>(
      rows, n, stream,
      []<class Group>(Group) { return softmax_backward_kernel<typename Group::type>; },
      a.dx.as<float>(), a.dy.as<float>(), a.y.as<float>(), rows, n);
}

}  // namespace ml::ML_CUDA_NAMESPACE
