#include "ops/softmax.h"

#include "cuda/rows.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// One team (a warp, or a block for long rows) a row. It reads its row three times: long ones come from L1 or L2 then.
template <int kTeam>
__global__ void __launch_bounds__(kThreads) softmax_kernel(Guard guard, float* y, const float* x, int64_t rows, int64_t n) {
  if (guard.closed()) return;
  const RowTeam<kTeam> team(rows, n);
  const float* from = x + team.row * n;
  float* to = y + team.row * n;
  const float greatest = team.greatest([&](int64_t i) { return from[i]; });
  const float sum = team.sum([&](int64_t i) { return expf(from[i] - greatest); });
  team.each([&](int64_t i) { to[i] = expf(from[i] - greatest) / sum; });
}

template <int kTeam>
__global__ void __launch_bounds__(kThreads)
    softmax_backward_kernel(Guard guard, float* dx, const float* dy, const float* y, int64_t rows, int64_t n) {
  if (guard.closed()) return;
  const RowTeam<kTeam> team(rows, n);
  const int64_t at = team.row * n;
  const float sum = team.sum([&](int64_t i) { return dy[at + i] * y[at + i]; });
  team.each([&](int64_t i) { dx[at + i] = y[at + i] * (dy[at + i] - sum); });
}

int64_t rows_of(const View& x) { return x.dim(-1) == 0 ? 0 : x.size() / x.dim(-1); }

}  // namespace

void softmax(CudaStream& stream, const Softmax& a) {
  launch_rows(softmax_kernel<kWarp>, softmax_kernel<kThreads>, rows_of(a.x), a.x.dim(-1), stream, a.y.as<float>(), a.x.as<float>(), rows_of(a.x),
              a.x.dim(-1));
}

void softmax_backward(CudaStream& stream, const SoftmaxBackward& a) {
  launch_rows(softmax_backward_kernel<kWarp>, softmax_backward_kernel<kThreads>, rows_of(a.y), a.y.dim(-1), stream, a.dx.as<float>(),
              a.dy.as<float>(), a.y.as<float>(), rows_of(a.y), a.y.dim(-1));
}

}  // namespace ml::ML_CUDA_NAMESPACE
