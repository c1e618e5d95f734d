#include "ops/fill.h"

#include "cpu/context.h"
#include "cpu/tuning.h"

namespace ml::cpu {
namespace {

template <class T>
void fill_typed(KernelContext& ctx, const Fill& a, T value) {
  T* out = a.out.as<T>();
  ctx.parallel_for(a.out.size(), kFillGrain, [=](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) out[i] = value;
  });
}

}  // namespace

void fill(KernelContext& ctx, const Fill& a) {
  const float value = static_cast<float>(a.value);
  switch (a.out.dtype) {
    case DType::f32: return fill_typed(ctx, a, value);
    case DType::f16: return fill_typed(ctx, a, to_half(value).bits);
    case DType::bf16: return fill_typed(ctx, a, to_bfloat16(value).bits);
    case DType::i32: return fill_typed(ctx, a, static_cast<int32_t>(a.value));
    case DType::i8: return fill_typed(ctx, a, static_cast<int8_t>(a.value));
    case DType::u8: return fill_typed(ctx, a, static_cast<uint8_t>(a.value));
  }
}

void fill_each(KernelContext& ctx, const FillEach& a) {
  for (const Fill& f : a.fills) fill(ctx, f);
}

}  // namespace ml::cpu
