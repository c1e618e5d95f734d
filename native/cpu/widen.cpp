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

// from: float32 or float16
template <class T>
void round_elements(float* to, const T* from, int64_t count) {
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) store(to + i, round_to_bfloat16(load(from + i)));
  for (; i < count; ++i) to[i] = to_float(to_bfloat16(load_one(from + i)));
}

void round_range(const View& to, const View& from, int64_t begin, int64_t end) {
  if (from.dtype == DType::f32)
    round_elements(to.as<float>() + begin, from.as<float>() + begin, end - begin);
  else
    round_elements(to.as<float>() + begin, from.as<Half>() + begin, end - begin);
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

namespace {

// A float32 copy, in ranges by `copy_range`.
template <class Range>
View float32_copy(KernelContext& ctx, const View& v, Range copy_range) {
  View copy = v;
  copy.dtype = DType::f32;
  copy.data = ctx.scratch<float>(v.size());
  ctx.parallel_for(v.size(), kWidenGrain,
                   [&](int64_t begin, int64_t end, int) { copy_range(copy, v, begin, end); });
  return copy;
}

}  // namespace

View widened(KernelContext& ctx, const View& v) {
  return v.dtype == DType::f32 ? v : float32_copy(ctx, v, ML_DISPATCH(widen_range));
}

View product_operand(KernelContext& ctx, const View& v, Compute compute) {
  if (compute != Compute::bfloat16 || v.dtype == DType::bf16) return widened(ctx, v);
  return float32_copy(ctx, v, ML_DISPATCH(round_range));
}

}  // namespace ml::cpu
#endif
