// Layer norm (ops/layer_norm.h): a row group normalises one row; dweight and dbias are sums of
// columns.

#include "ops/layer_norm.h"

#include "cuda/column_sums.cuh"
#include "cuda/rows.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

struct Moments {
  float mean, inverse_deviation;
};

// Of the group's row x; v: its registers, which hold the row afterwards where the group caches it.
// The mean first, so that a large one leaves no rounding error in the variance.
template <class Group>
__device__ Moments moments(const Group& group, typename Group::Registers& v, const float* x,
                           int64_t n, float eps) {
  float sum = 0;
  group.for_chunks([&](int64_t begin) {
    group.load(v, x, begin);
    group.for_loaded(begin, [&](int i) { sum += v[i]; });
  });
  const float mean = group.sum(sum) / static_cast<float>(n);
  float squares = 0;
  group.for_chunks([&](int64_t begin) {
    if constexpr (!Group::kCachesRow) group.load(v, x, begin);
    group.for_inside(begin, [&](int i) { squares += (v[i] - mean) * (v[i] - mean); });
  });
  return {mean, 1.0f / sqrtf(group.sum(squares) / static_cast<float>(n) + eps)};
}

// One row group computes one row of y. weight, bias: [n] or nullptr
template <class Group>
__global__ void __launch_bounds__(Group::kBlock, Group::kMinBlocks)
    layer_norm_kernel(Guard guard, float* y, const float* x, const float* weight, const float* bias,
                      int64_t rows, int64_t n, float eps) {
  if (guard.aborted()) return;
  const Group group(rows, n);
  const int64_t at = group.row * n;
  typename Group::Registers v;
  const Moments m = moments(group, v, x + at, n, eps);
  group.for_chunks([&](int64_t begin) {
    if constexpr (!Group::kCachesRow) group.load(v, x + at, begin);
    group.store(y + at, begin, [&](int i, int64_t c) {
      float normal = (v[i] - m.mean) * m.inverse_deviation;
      if (weight) normal *= weight[c];
      return bias ? normal + bias[c] : normal;
    });
  });
}

// One row group computes one row of dx. means, factors [rows]: the mean and the inverse deviation
// of each row, for dweight; or nullptr
template <class Group>
__global__ void __launch_bounds__(Group::kBlock, Group::kMinBlocks)
    layer_norm_backward_kernel(Guard guard, float* dx, float* means, float* factors,
                               const float* dy, const float* x, const float* weight, int64_t rows,
                               int64_t n, float eps) {
  if (guard.aborted()) return;
  const Group group(rows, n);
  const int64_t at = group.row * n;
  typename Group::Registers v, g;  // (x - mean) * inverse deviation, weight * dy
  const Moments m = moments(group, v, x + at, n, eps);
  const auto load = [&](int64_t begin) {
    group.load(g, dy + at, begin);
    if (weight) group.multiply(g, weight, begin);
    if constexpr (!Group::kCachesRow) group.load(v, x + at, begin);
    group.for_loaded(begin, [&](int i) { v[i] = (v[i] - m.mean) * m.inverse_deviation; });
  };
  float sum = 0, product = 0;
  group.for_chunks([&](int64_t begin) {
    load(begin);
    group.for_loaded(begin, [&](int i) {  // g is 0 past the row
      sum += g[i];
      product += g[i] * v[i];
    });
  });
  const float mean_g = group.sum(sum) / static_cast<float>(n),
              mean_gx = group.sum(product) / static_cast<float>(n);
  if (dx)
    group.for_chunks([&](int64_t begin) {
      if constexpr (!Group::kCachesRow) load(begin);
      group.store(dx + at, begin, [&](int i, int64_t) {
        return (g[i] - mean_g - v[i] * mean_gx) * m.inverse_deviation;
      });
    });
  if (factors && group.is_leader()) {
    means[group.row] = m.mean;
    factors[group.row] = m.inverse_deviation;
  }
}

template <class T>
T* data_or_null(const View& v) {
  return v ? v.as<T>() : nullptr;
}

}  // namespace

void layer_norm(CudaStream& stream, const LayerNorm& a) {
  const int64_t rows = rows_of(a.x), n = a.x.dim(-1);
  launch_rows<kRowRegisters>(
      rows, n, stream, []<class Group>(Group) { return layer_norm_kernel<typename Group::type>; },
      a.y.as<float>(), a.x.as<float>(), data_or_null<const float>(a.weight),
      data_or_null<const float>(a.bias), rows, n, a.eps);
}

void layer_norm_backward(CudaStream& stream, const LayerNormBackward& a) {
  const int64_t rows = rows_of(a.x), n = a.x.dim(-1);
  float* means = a.dweight ? stream.scratch<float>(rows) : nullptr;
  float* factors = a.dweight ? stream.scratch<float>(rows) : nullptr;
  if (a.dx || a.dweight)
    launch_rows<kRowRegisters / 2>(
        rows, n, stream,
        []<class Group>(Group) { return layer_norm_backward_kernel<typename Group::type>; },
        data_or_null<float>(a.dx), means, factors, a.dy.as<float>(), a.x.as<float>(),
        data_or_null<const float>(a.weight), rows, n, a.eps);
  ColumnSums sums{
      .to = data_or_null<float>(a.dbias), .dy = a.dy.as<float>(), .rows = rows, .columns = n};
  if (a.dbias) column_sums(stream, sums);
  sums.to = data_or_null<float>(a.dweight);
  sums.x = a.x.as<float>();
  sums.means = means;
  sums.factors = factors;
  if (a.dweight) column_sums(stream, sums);
}

}  // namespace ml::ML_CUDA_NAMESPACE
