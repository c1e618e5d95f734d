#include "ops/activation.h"

#ifdef ML_ISA
#include "cpu/activation.h"
#include "cpu/rows.h"

namespace ml::cpu::ML_ISA {
namespace {

void activate_range(const Activate& a, int64_t begin, int64_t end) {
  const float* x = a.x.as<float>() + begin;
  float* y = a.y.as<float>() + begin;
  for_vectors(end - begin,
              [&](int64_t i, int n) { store_n(y + i, activate(a.kind, load_n(x + i, n)), n); });
}

void activate_backward_range(const ActivateBackward& a, int64_t begin, int64_t end) {
  const float* x = a.x.as<float>() + begin;
  const float* dy = a.dy.as<float>() + begin;
  float* dx = a.dx.as<float>() + begin;
  for_vectors(end - begin, [&](int64_t i, int n) {
    store_n(dx + i, load_n(dy + i, n) * activate_derivative(a.kind, load_n(x + i, n)), n);
  });
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include "cpu/tuning.h"

#define ML_ISA_SOURCE "ops/activation.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {

void activate(KernelContext& ctx, const Activate& a) {
  const auto range = ML_DISPATCH(activate_range);
  ctx.parallel_for(a.x.size(), kActivationGrain,
                   [&](int64_t begin, int64_t end, int) { range(a, begin, end); });
}

void activate_backward(KernelContext& ctx, const ActivateBackward& a) {
  const auto range = ML_DISPATCH(activate_backward_range);
  ctx.parallel_for(a.x.size(), kActivationGrain,
                   [&](int64_t begin, int64_t end, int) { range(a, begin, end); });
}

}  // namespace ml::cpu
#endif
