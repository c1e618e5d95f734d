// Cross-entropy (ops/cross_entropy.h): a row group computes the loss of one token, or its gradient.

#include "ops/cross_entropy.h"

#include "ops/softmax_row.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// One row group computes the loss of one token.
template <class Group>
__global__ void __launch_bounds__(Group::kBlock, Group::kMinBlocks)
    cross_entropy_kernel(Guard guard, float* loss, const float* logits, const int32_t* targets,
                         int64_t tokens, int64_t classes) {
  if (guard.aborted()) return;
  const Group group(tokens, classes);
  const float* x = logits + group.row * classes;
  const SoftmaxRow<Group> row(group, x);
  if (group.is_leader()) {
    const int32_t target = targets[group.row];
    loss[group.row] = target >= 0 ? (row.max - x[target]) + logf(row.sum) : 0;
  }
}

// One row group computes dlogits of one token.
template <class Group>
__global__ void __launch_bounds__(Group::kBlock, Group::kMinBlocks)
    cross_entropy_backward_kernel(Guard guard, float* dlogits, const float* dloss,
                                  const float* logits, const int32_t* targets, int64_t tokens,
                                  int64_t classes) {
  if (guard.aborted()) return;
  const Group group(tokens, classes);
  SoftmaxRow<Group> row(group, logits + group.row * classes);
  const int32_t target = group.exists ? targets[group.row] : -1;
  const float d = group.exists ? dloss[group.row] : 0, scale = d / row.sum;
  row.store(dlogits + group.row * classes, [&](float e, int64_t c) {
    const float g = c == target ? e * scale - d : e * scale;
    return target >= 0 ? g : 0;
  });
}

}  // namespace

void cross_entropy(CudaStream& stream, const CrossEntropy& a) {
  const int64_t tokens = a.logits.dim(0), classes = a.logits.dim(1);
  if (tokens == 0) return;
  stream.check_targets("crossEntropy", a.targets, classes);
  launch_rows<kRowRegisters>(
      tokens, classes, stream,
      []<class Group>(Group) { return cross_entropy_kernel<typename Group::type>; },
      a.loss.as<float>(), a.logits.as<float>(), a.targets.as<int32_t>(), tokens, classes);
}

void cross_entropy_backward(CudaStream& stream, const CrossEntropyBackward& a) {
  const int64_t tokens = a.logits.dim(0), classes = a.logits.dim(1);
  if (tokens == 0) return;
  stream.check_targets("crossEntropyBackward", a.targets, classes);
  launch_rows<kRowRegisters>(
      tokens, classes, stream,
      []<class Group>(Group) { return cross_entropy_backward_kernel<typename Group::type>; },
      a.dlogits.as<float>(), a.dloss.as<float>(), a.logits.as<float>(), a.targets.as<int32_t>(),
      tokens, classes);
}

}  // namespace ml::ML_CUDA_NAMESPACE
