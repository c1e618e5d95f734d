// DenseUpdate and StepAdvance (optim/dense_update.h): one elementwise pass over parameters, states
// and gradients.

#include "optim/dense_update.h"

#include "cuda/block.cuh"
#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tensor_list.cuh"
#include "cuda/tuning.h"
#include "cuda/vec.cuh"
#include "optim/adagrad.h"
#include "optim/adamw.h"
#include "optim/sgd.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// One thread advances the step.
__global__ void step_advance_kernel(Guard guard, int32_t* step) {
  if (guard.aborted()) return;
  *step = next_step(*step);
}

// A state that the rule does not have is nullptr.
struct UpdatedTensor {
  float *x, *state1, *state2;
  const float* grad;
  const float* rate;  // in place of that in hyper, or nullptr
  Hyper hyper;
  bool vec4;
};

// One block updates every gridDim-th chunk of all tensors. One thread computes the rule, whose bias
// corrections are float64.
template <class Rule>
__global__ void __launch_bounds__(kThreads, kDenseUpdateMinBlocks)
    dense_update_kernel(Guard guard, TensorList<UpdatedTensor> list, const int32_t* step) {
  if (guard.aborted()) return;
  const int32_t now = next_step(*step);
  for_chunks(list, kListChunk, [&](const UpdatedTensor& t, int64_t, int64_t begin, int64_t end) {
    Rule& rule = shared<Rule>();
    block_sync();  // threads may still read the rule of the last chunk
    if (threadIdx.x == 0) rule = Rule(with_rate(t.hyper, t.rate), now);
    block_sync();
    const auto root = [](float v) { return sqrtf(v); };
    for_packs(t.vec4, begin, end, [&]<int n>(int64_t i, Width<n>) {
      Pack<float, n> value = load<n>(t.x + i), first{}, second{};
      const Pack<float, n> g = load<n>(t.grad + i);
      if constexpr (Rule::kStates > 0) first = load<n>(t.state1 + i);
      if constexpr (Rule::kStates > 1) second = load<n>(t.state2 + i);
#pragma unroll
      for (int e = 0; e < n; ++e) rule(value.v[e], first.v[e], second.v[e], g.v[e], root);
      store<n>(t.x + i, value);
      if constexpr (Rule::kStates > 0) store<n>(t.state1 + i, first);
      if constexpr (Rule::kStates > 1) store<n>(t.state2 + i, second);
    });
  });
}

template <class Rule>
void update_with(CudaStream& stream, const DenseUpdate& a) {
  const auto data = [](const View& v) { return v ? v.as<float>() : nullptr; };
  launch_lists<UpdatedTensor>(
      stream, kListChunk, a.parameters,
      [&](const DenseParameter& p) {
        UpdatedTensor t{.x = data(p.param),
                        .state1 = data(p.state1),
                        .state2 = data(p.state2),
                        .grad = data(p.grad),
                        .rate = a.rates ? a.rates.as<float>() + p.rate : nullptr,
                        .hyper = p.hyper,
                        .vec4 = false};
        t.vec4 = has_packs_of_four(t.x) && has_packs_of_four(t.state1) &&
                 has_packs_of_four(t.state2) && has_packs_of_four(t.grad);
        return Listed<UpdatedTensor>{t, p.param.size()};
      },
      [&](const TensorList<UpdatedTensor>& list, dim3 grid, int64_t) {
        launch(dense_update_kernel<Rule>, grid, dim3(kThreads), sizeof(Rule), stream, list,
               a.step.as<int32_t>());
      });
}

}  // namespace

void step_advance(CudaStream& stream, const StepAdvance& a) {
  launch(step_advance_kernel, dim3(1), dim3(1), 0, stream, a.step.as<int32_t>());
}

void dense_update(CudaStream& stream, const DenseUpdate& a) {
  switch (a.rule) {
    case Rule::sgd: return update_with<SgdRule>(stream, a);
    case Rule::adamw: return update_with<AdamWRule>(stream, a);
    case Rule::adagrad:
    case Rule::rowwise_adagrad: return update_with<AdagradRule>(stream, a);
  }
}

}  // namespace ml::ML_CUDA_NAMESPACE
