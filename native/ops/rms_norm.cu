#include "ops/rms_norm.h"

#include "cuda/column_sums.cuh"
#include "cuda/rows.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

__device__ inline float inverse_rms(float squares, int64_t n, float eps) {
  return 1.0f / sqrtf(squares / static_cast<float>(n) + eps);
}

// gain: [n] or nullptr
template <class Team>
__global__ void __launch_bounds__(Team::kBlock, Team::kBlocks)
    rms_norm_kernel(Guard guard, float* y, const float* x, const float* gain, int64_t rows,
                    int64_t n, float eps) {
  if (guard.aborted()) return;
  const Team team(rows, n);
  const int64_t at = team.row * n;
  typename Team::Slots v;
  float squares = 0;
  team.parts([&](int64_t begin) {
    team.load(v, x + at, begin);
    team.held(begin, [&](int i) { squares += v[i] * v[i]; });
  });
  const float rs = inverse_rms(team.sum(squares), n, eps);
  team.parts([&](int64_t begin) {
    if constexpr (!Team::kHoldsRow) team.load(v, x + at, begin);
    team.store(y + at, begin,
               [&](int i, int64_t c) { return gain ? v[i] * rs * gain[c] : v[i] * rs; });
  });
}

// factors [rows]: each row's rs, for dgain; or nullptr
template <class Team>
__global__ void __launch_bounds__(Team::kBlock, Team::kBlocks)
    rms_norm_backward_kernel(Guard guard, float* dx, float* factors, const float* dy,
                             const float* x, const float* gain, int64_t rows, int64_t n,
                             float eps) {
  if (guard.aborted()) return;
  const Team team(rows, n);
  const int64_t at = team.row * n;
  typename Team::Slots v, d;  // x, gain * dy
  const auto load = [&](int64_t begin) {
    team.load(v, x + at, begin);
    team.load(d, dy + at, begin);
    if (gain) team.multiply(d, gain, begin);
  };
  float squares = 0, product = 0;
  team.parts([&](int64_t begin) {
    load(begin);
    team.held(begin, [&](int i) {
      squares += v[i] * v[i];
      product += v[i] * d[i];
    });
  });
  const float rs = inverse_rms(team.sum(squares), n, eps);
  const float mean = team.sum(product) / static_cast<float>(n) * rs * rs;
  team.parts([&](int64_t begin) {
    if constexpr (!Team::kHoldsRow) load(begin);
    team.store(dx + at, begin, [&](int i, int64_t) { return rs * (d[i] - v[i] * mean); });
  });
  if (factors && team.leads()) factors[team.row] = rs;
}

const float* given(const View& gain) { return gain ? gain.as<float>() : nullptr; }

}  // namespace

void rms_norm(CudaStream& stream, const RmsNorm& a) {
  const int64_t rows = rows_of(a.x), n = a.x.dim(-1);
  launch_rows<kHeld>(
      rows, n, stream, []<class Team>(Team) { return rms_norm_kernel<typename Team::type>; },
      a.y.as<float>(), a.x.as<float>(), given(a.gain), rows, n, a.eps);
}

void rms_norm_backward(CudaStream& stream, const RmsNormBackward& a) {
  const int64_t rows = rows_of(a.x), n = a.x.dim(-1);
  float* factors = a.dgain ? stream.scratch<float>(rows) : nullptr;
  launch_rows<kHeld / 2>(
      rows, n, stream,
      []<class Team>(Team) { return rms_norm_backward_kernel<typename Team::type>; },
      a.dx.as<float>(), factors, a.dy.as<float>(), a.x.as<float>(), given(a.gain), rows, n, a.eps);
  if (a.dgain)
    column_sums(stream, {a.dgain.as<float>(), a.dy.as<float>(), a.x.as<float>(), factors, rows, n});
}

}  // namespace ml::ML_CUDA_NAMESPACE
