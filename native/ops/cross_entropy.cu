#include "ops/cross_entropy.h"

#include "cuda/rows.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// One team (a warp, or a block for long rows) a token.
template <int kTeam>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_kernel(Guard guard, float* loss, const float* logits, const int32_t* targets, int64_t tokens, int64_t classes) {
  if (guard.closed()) return;
  const RowTeam<kTeam> team(tokens, classes);
  const float* x = logits + team.row * classes;
  const float greatest = team.greatest([&](int64_t c) { return x[c]; });
  const float sum = team.sum([&](int64_t c) { return expf(x[c] - greatest); });
  if (team.leads()) {
    const int32_t target = targets[team.row];
    loss[team.row] = target >= 0 ? (greatest - x[target]) + logf(sum) : 0;
  }
}

template <int kTeam>
__global__ void __launch_bounds__(kThreads) cross_entropy_backward_kernel(Guard guard, float* dlogits, const float* dloss, const float* logits,
                                                                          const int32_t* targets, int64_t tokens, int64_t classes) {
  if (guard.closed()) return;
  const RowTeam<kTeam> team(tokens, classes);
  const float* x = logits + team.row * classes;
  float* dx = dlogits + team.row * classes;
  const float greatest = team.greatest([&](int64_t c) { return x[c]; });
  const float sum = team.sum([&](int64_t c) { return expf(x[c] - greatest); });
  const int32_t target = team.n > 0 ? targets[team.row] : -1;
  const float d = team.n > 0 ? dloss[team.row] : 0, scale = d / sum;
  team.each([&](int64_t c) {
    float g = expf(x[c] - greatest) * scale;
    if (c == target) g -= d;
    dx[c] = target >= 0 ? g : 0;
  });
}

}  // namespace

void cross_entropy(CudaStream& stream, const CrossEntropy& a) {
  const int64_t tokens = a.logits.dim(0), classes = a.logits.dim(1);
  if (tokens == 0) return;
  stream.check_targets("crossEntropy", a.targets, classes);
  launch_rows(cross_entropy_kernel<kWarp>, cross_entropy_kernel<kThreads>, tokens, classes, stream, a.loss.as<float>(), a.logits.as<float>(),
              a.targets.as<int32_t>(), tokens, classes);
}

void cross_entropy_backward(CudaStream& stream, const CrossEntropyBackward& a) {
  const int64_t tokens = a.logits.dim(0), classes = a.logits.dim(1);
  if (tokens == 0) return;
  stream.check_targets("crossEntropyBackward", a.targets, classes);
  launch_rows(cross_entropy_backward_kernel<kWarp>, cross_entropy_backward_kernel<kThreads>, tokens, classes, stream, a.dlogits.as<float>(),
              a.dloss.as<float>(), a.logits.as<float>(), a.targets.as<int32_t>(), tokens, classes);
}

}  // namespace ml::ML_CUDA_NAMESPACE
