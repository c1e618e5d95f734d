#include "ops/rms_norm.h"

#include "cuda/column_sums.cuh"
#include "cuda/rows.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

template <class Team>
__device__ inline float inverse_rms(const Team& team, const float* x, int64_t n, float eps) {
  const float squares = team.sum([&](int64_t i) { return x[i] * x[i]; });
  return 1.0f / sqrtf(squares / static_cast<float>(n) + eps);
}

// One team (a warp, or a block for long rows) a row. gain: [n] or nullptr
template <int kTeam>
__global__ void __launch_bounds__(kThreads)
    rms_norm_kernel(Guard guard, float* y, const float* x, const float* gain, int64_t rows, int64_t n, float eps) {
  if (guard.closed()) return;
  const RowTeam<kTeam> team(rows, n);
  const int64_t at = team.row * n;
  const float rs = inverse_rms(team, x + at, n, eps);
  team.each([&](int64_t i) {
    const float v = x[at + i] * rs;
    y[at + i] = gain ? v * gain[i] : v;
  });
}

// factors [rows]: each row's rs, for dgain; or nullptr
template <int kTeam>
__global__ void __launch_bounds__(kThreads) rms_norm_backward_kernel(Guard guard, float* dx, float* factors, const float* dy, const float* x,
                                                                     const float* gain, int64_t rows, int64_t n, float eps) {
  if (guard.closed()) return;
  const RowTeam<kTeam> team(rows, n);
  const int64_t at = team.row * n;
  const float rs = inverse_rms(team, x + at, n, eps);
  const auto scaled = [&](int64_t i) { return gain ? gain[i] * dy[at + i] : dy[at + i]; };
  const float mean = team.sum([&](int64_t i) { return x[at + i] * scaled(i); }) / static_cast<float>(n) * rs * rs;
  team.each([&](int64_t i) { dx[at + i] = rs * (scaled(i) - x[at + i] * mean); });
  if (factors && team.leads()) factors[team.row] = rs;
}

int64_t rows_of(const View& x) { return x.dim(-1) == 0 ? 0 : x.size() / x.dim(-1); }

const float* given(const View& gain) { return gain ? gain.as<float>() : nullptr; }

}  // namespace

void rms_norm(CudaStream& stream, const RmsNorm& a) {
  launch_rows(rms_norm_kernel<kWarp>, rms_norm_kernel<kThreads>, rows_of(a.x), a.x.dim(-1), stream, a.y.as<float>(), a.x.as<float>(),
              given(a.gain), rows_of(a.x), a.x.dim(-1), a.eps);
}

void rms_norm_backward(CudaStream& stream, const RmsNormBackward& a) {
  const int64_t rows = rows_of(a.x), n = a.x.dim(-1);
  float* factors = a.dgain ? stream.scratch<float>(rows) : nullptr;
  launch_rows(rms_norm_backward_kernel<kWarp>, rms_norm_backward_kernel<kThreads>, rows, n, stream, a.dx.as<float>(), factors, a.dy.as<float>(),
              a.x.as<float>(), given(a.gain), rows, n, a.eps);
  if (a.dgain) column_sums(stream, {a.dgain.as<float>(), a.dy.as<float>(), a.x.as<float>(), factors, rows, n});
}

}  // namespace ml::ML_CUDA_NAMESPACE
