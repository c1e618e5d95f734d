#include "cpu/widen.h"

#ifdef ML_ISA
namespace ml::cpu::ML_ISA {
namespace {

template <class T>
void widen_elements(float* to, const T* from, int64_t count) {
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) store(to + i, load(from + i));
  for (; i < count; ++i) to[i] = load_one(from + i);
}

void widen_range(const View& to, const View& from, int64_t begin, int64_t end) {
  if (from.dtype == DType::bf16)
    widen_elements(to.as<float>() + begin, from.as<BFloat16>() + begin, end - begin);
  else
    widen_elements(to.as<float>() + begin, from.as<Half>() + begin, end - begin);
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#define ML_ISA_SOURCE "cpu/widen.cpp"
#include "cpu/foreach_isa.h"
#include "cpu/tuning.h"

namespace ml::cpu {

View widened(KernelContext& ctx, const View& v) {
  if (v.dtype == DType::f32) return v;
  View copy = v;
  copy.dtype = DType::f32;
  copy.data = ctx.scratch<float>(v.size());
  const auto range = ML_DISPATCH(widen_range);
  ctx.parallel_for(v.size(), kWidenGrain,
                   [&](int64_t begin, int64_t end, int) { range(copy, v, begin, end); });
  return copy;
}

}  // namespace ml::cpu
#endif
