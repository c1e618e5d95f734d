// DenseUpdate and StepAdvance (optim/dense_update.h): one elementwise pass over parameter, states
// and gradient.

#include "optim/dense_update.h"

#include "cuda/launch.cuh"
#include "cuda/stream.h"
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

// One thread updates every (gridDim.x * kThreads)-th pack of n elements. A state that the rule does
// not have is nullptr.
template <class Rule, int n>
__global__ void __launch_bounds__(kThreads, kDenseUpdateMinBlocks)
    dense_update_kernel(Guard guard, float* x, float* state1, float* state2, const float* grad,
                        const int32_t* step, Hyper hyper, int64_t packs) {
  if (guard.aborted()) return;
  const Rule rule(hyper, next_step(*step));
  const auto root = [](float v) { return sqrtf(v); };
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < packs;
       i += int64_t{gridDim.x} * kThreads) {
    const int64_t at = i * n;
    Pack<float, n> value = load<n>(x + at), first{}, second{};
    const Pack<float, n> g = load<n>(grad + at);
    if (state1) first = load<n>(state1 + at);
    if (state2) second = load<n>(state2 + at);
#pragma unroll
    for (int e = 0; e < n; ++e) rule(value.v[e], first.v[e], second.v[e], g.v[e], root);
    store<n>(x + at, value);
    if (state1) store<n>(state1 + at, first);
    if (state2) store<n>(state2 + at, second);
  }
}

template <class Rule>
void update_with(CudaStream& stream, const DenseUpdate& a) {
  float *x = a.param.as<float>(), *s1 = a.state1 ? a.state1.as<float>() : nullptr,
        *s2 = a.state2 ? a.state2.as<float>() : nullptr;
  const int64_t size = a.param.size();
  const auto vec4_aligned = [&](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; };
  const bool vec4 = size % 4 == 0 && vec4_aligned(x) && vec4_aligned(a.grad.data) &&
                    vec4_aligned(s1) && vec4_aligned(s2);
  const int64_t packs = vec4 ? size / 4 : size;
  launch(vec4 ? dense_update_kernel<Rule, 4> : dense_update_kernel<Rule, 1>,
         dim3(striding_blocks(packs, kThreads, stream.limits().multiprocessors)), dim3(kThreads), 0,
         stream, x, s1, s2, a.grad.as<float>(), a.step.as<int32_t>(), a.hyper, packs);
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
