#include "ops/cross_entropy.h"

#include "cuda/softmax_row.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

template <class Team>
__global__ void __launch_bounds__(Team::kBlock, Team::kBlocks)
    cross_entropy_kernel(Guard guard, float* loss, const float* logits, const int32_t* targets,
                         int64_t tokens, int64_t classes) {
  if (guard.aborted()) return;
  const Team team(tokens, classes);
  const float* x = logits + team.row * classes;
  const SoftmaxRow<Team> row(team, x);
  if (team.leads()) {
    const int32_t target = targets[team.row];
    loss[team.row] = target >= 0 ? (row.greatest - x[target]) + logf(row.sum) : 0;
  }
}

template <class Team>
__global__ void __launch_bounds__(Team::kBlock, Team::kBlocks)
    cross_entropy_backward_kernel(Guard guard, float* dlogits, const float* dloss,
                                  const float* logits, const int32_t* targets, int64_t tokens,
                                  int64_t classes) {
  if (guard.aborted()) return;
  const Team team(tokens, classes);
  SoftmaxRow<Team> row(team, logits + team.row * classes);
  const int32_t target = team.exists ? targets[team.row] : -1;
  const float d = team.exists ? dloss[team.row] : 0, scale = d / row.sum;
  row.store(dlogits + team.row * classes, [&](float e, int64_t c) {
    const float g = c == target ? e * scale - d : e * scale;
    return target >= 0 ? g : 0;
  });
}

}  // namespace

void cross_entropy(CudaStream& stream, const CrossEntropy& a) {
  const int64_t tokens = a.logits.dim(0), classes = a.logits.dim(1);
  if (tokens == 0) return;
  stream.check_targets("crossEntropy", a.targets, classes);
  launch_rows<kHeld>(
      tokens, classes, stream,
      []<class Team>(Team) { return cross_entropy_kernel<typename Team::type>; },
      a.loss.as<float>(), a.logits.as<float>(), a.targets.as<int32_t>(), tokens, classes);
}

void cross_entropy_backward(CudaStream& stream, const CrossEntropyBackward& a) {
  const int64_t tokens = a.logits.dim(0), classes = a.logits.dim(1);
  if (tokens == 0) return;
  stream.check_targets("crossEntropyBackward", a.targets, classes);
  launch_rows<kHeld>(
      tokens, classes, stream,
      []<class Team>(Team) { return cross_entropy_backward_kernel<typename Team::type>; },
      a.dlogits.as<float>(), a.dloss.as<float>(), a.logits.as<float>(), a.targets.as<int32_t>(),
      tokens, classes);
}

}  // namespace ml::ML_CUDA_NAMESPACE
