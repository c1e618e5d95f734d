#include "ops/softmax.h"

#include "cuda/softmax_row.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

template <class Team>
__global__ void __launch_bounds__(Team::kBlock, Team::kBlocks)
    softmax_kernel(Guard guard, float* y, const float* x, int64_t rows, int64_t n) {
  if (guard.aborted()) return;
  const Team team(rows, n);
  SoftmaxRow<Team> row(team, x + team.row * n);
  row.store(y + team.row * n, [&](float e, int64_t) { return e / row.sum; });
}

template <class Team>
__global__ void __launch_bounds__(Team::kBlock, Team::kBlocks)
    softmax_backward_kernel(Guard guard, float* dx, const float* dy, const float* y, int64_t rows,
                            int64_t n) {
  if (guard.aborted()) return;
  const Team team(rows, n);
  const int64_t at = team.row * n;
  typename Team::Slots d, v;
  const auto load = [&](int64_t begin) {
    team.load(d, dy + at, begin);
    team.load(v, y + at, begin);
  };
  float sum = 0;
  team.parts([&](int64_t begin) {
    load(begin);
    team.held(begin, [&](int i) { sum += d[i] * v[i]; });
  });
  sum = team.sum(sum);
  team.parts([&](int64_t begin) {
    if constexpr (!Team::kHoldsRow) load(begin);
    team.store(dx + at, begin, [&](int i, int64_t) { return v[i] * (d[i] - sum); });
  });
}

}  // namespace

void softmax(CudaStream& stream, const Softmax& a) {
  const int64_t rows = rows_of(a.x), n = a.x.dim(-1);
  launch_rows<kHeld>(
      rows, n, stream, []<class Team>(Team) { return softmax_kernel<typename Team::type>; },
      a.y.as<float>(), a.x.as<float>(), rows, n);
}

void softmax_backward(CudaStream& stream, const SoftmaxBackward& a) {
  const int64_t rows = rows_of(a.y), n = a.y.dim(-1);
  launch_rows<kHeld / 2>(
      rows, n, stream,
      []<class Team>(Team) { return softmax_backward_kernel<typename Team::type>; },
      a.dx.as<float>(), a.dy.as<float>(), a.y.as<float>(), rows, n);
}

}  // namespace ml::ML_CUDA_NAMESPACE
