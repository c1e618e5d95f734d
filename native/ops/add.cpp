#include "ops/add.h"

#ifdef ML_ISA
#include "cpu/rows.h"

namespace ml::cpu::ML_ISA {
namespace {

void add_range(const Add& a, int64_t begin, int64_t end) {
  const float* x = a.x.as<float>() + begin;
  const float* y = a.y.as<float>() + begin;
  float* out = a.out.as<float>() + begin;
  for_vectors(end - begin, [&](int64_t i, int n) {
    store_n(out + i, fma(set1(a.beta), load_n(y + i, n), a.alpha * load_n(x + i, n)), n);
  });
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include "cpu/tuning.h"

#define ML_ISA_SOURCE "ops/add.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {

void add(KernelContext& ctx, const Add& a) {
  const auto range = ML_DISPATCH(add_range);
  ctx.parallel_for(a.out.size(), kElementwiseGrain,
                   [&](int64_t begin, int64_t end, int) { range(a, begin, end); });
}

}  // namespace ml::cpu
#endif
