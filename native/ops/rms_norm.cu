// RMSNorm (ops/rms_norm.h): a row group normalises one row; dgain is a sum of columns.

#include "ops/rms_norm.h"

#include "cuda/column_sums.cuh"
#include "cuda/rows.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

__device__ inline float inverse_rms(float squares, int64_t n, float eps) {
  return 1.0f / sqrtf(squares / static_cast<float>(n) + eps);
}

// One row group computes one row of y. gain [n], or nullptr
template <class Group>
__global__ void __launch_bounds__(Group::kBlock, Group::kMinBlocks)
    rms_norm_kernel(Guard guard, float* y, const float* x, const float* gain, int64_t rows,
                    int64_t n, float eps) {
  if (guard.aborted()) return;
  const Group group(rows, n);
  const int64_t at = group.row * n;
  typename Group::Registers v;
  float squares = 0;
  group.for_chunks([&](int64_t begin) {
    group.load(v, x + at, begin);
    group.for_loaded(begin, [&](int i) { squares += v[i] * v[i]; });
  });
  const float rs = inverse_rms(group.sum(squares), n, eps);
  group.for_chunks([&](int64_t begin) {
    if constexpr (!Group::kCachesRow) group.load(v, x + at, begin);
    group.store(y + at, begin,
                [&](int i, int64_t c) { return gain ? v[i] * rs * gain[c] : v[i] * rs; });
  });
}

// One row group computes one row of dx. factors [rows]: rs of each row, for dgain; or nullptr
template <class Group>
__global__ void __launch_bounds__(Group::kBlock, Group::kMinBlocks)
    rms_norm_backward_kernel(Guard guard, float* dx, float* factors, const float* dy,
                             const float* x, const float* gain, int64_t rows, int64_t n,
                             float eps) {
  if (guard.aborted()) return;
  const Group group(rows, n);
  const int64_t at = group.row * n;
  typename Group::Registers v, d;  // x, gain * dy
  const auto load = [&](int64_t begin) {
    group.load(v, x + at, begin);
    group.load(d, dy + at, begin);
    if (gain) group.multiply(d, gain, begin);
  };
  float squares = 0, product = 0;
  group.for_chunks([&](int64_t begin) {
    load(begin);
    group.for_loaded(begin, [&](int i) {
      squares += v[i] * v[i];
      product += v[i] * d[i];
    });
  });
  const float rs = inverse_rms(group.sum(squares), n, eps);
  const float mean = group.sum(product) / static_cast<float>(n) * rs * rs;
  group.for_chunks([&](int64_t begin) {
    if constexpr (!Group::kCachesRow) load(begin);
    group.store(dx + at, begin, [&](int i, int64_t) { return rs * (d[i] - v[i] * mean); });
  });
  if (factors && group.is_leader()) factors[group.row] = rs;
}

const float* data_or_null(const View& gain) { return gain ? gain.as<float>() : nullptr; }

}  // namespace

void rms_norm(CudaStream& stream, const RmsNorm& a) {
  const int64_t rows = rows_of(a.x), n = a.x.dim(-1);
  launch_rows<kRowRegisters>(
      rows, n, stream, []<class Group>(Group) { return rms_norm_kernel<typename Group::type>; },
      a.y.as<float>(), a.x.as<float>(), data_or_null(a.gain), rows, n, a.eps);
}

void rms_norm_backward(CudaStream& stream, const RmsNormBackward& a) {
  const int64_t rows = rows_of(a.x), n = a.x.dim(-1);
  float* factors = a.dgain ? stream.scratch<float>(rows) : nullptr;
  launch_rows<kRowRegisters / 2>(
      rows, n, stream,
      []<class Group>(Group) { return rms_norm_backward_kernel<typename Group::type>; },
      a.dx.as<float>(), factors, a.dy.as<float>(), a.x.as<float>(), data_or_null(a.gain), rows, n,
      a.eps);
  if (a.dgain)
    column_sums(stream, {.to = a.dgain.as<float>(),
                         .dy = a.dy.as<float>(),
                         .x = a.x.as<float>(),
                         .factors = factors,
                         .rows = rows,
                         .columns = n});
}

}  // namespace ml::ML_CUDA_NAMESPACE
