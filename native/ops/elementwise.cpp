#include "ops/elementwise.h"

#ifdef ML_ISA
#include "cpu/activation.h"
#include "cpu/rows.h"

namespace ml::cpu::ML_ISA {
namespace {

void combine_range(const Combine& a, int64_t begin, int64_t end) {
  const float* x = a.x.as<float>() + begin;
  const float* y = a.y.as<float>() + begin;
  float* out = a.out.as<float>() + begin;
  for_vectors(end - begin, [&](int64_t i, int n) {
    store_n(out + i, fma(set1(a.b), load_n(y + i, n), a.a * load_n(x + i, n)), n);
  });
}

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
    Vec d = load_n(dy + i, n) * activate_derivative(a.kind, load_n(x + i, n));
    if (a.accumulate) d += load_n(dx + i, n);
    store_n(dx + i, d, n);
  });
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include <cstring>

#define ML_ISA_SOURCE "ops/elementwise.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {
namespace {

// elements: long enough to be worth a hand-over between threads
constexpr int64_t kPiece = 1 << 15;

template <class T>
void fill_typed(Context& ctx, const Fill& a, T value) {
  T* out = a.out.as<T>();
  ctx.parallel_for(a.out.size(), kPiece * 4, [=](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) out[i] = value;
  });
}

}  // namespace

void fill(Context& ctx, const Fill& a) {
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

void copy(Context& ctx, const Copy& a) {
  if (a.in.dtype == a.out.dtype) {
    const int64_t width = bytes_of(a.in.dtype);
    ctx.parallel_for(a.in.size(), kPiece * 8, [&](int64_t begin, int64_t end, int) {
      std::memmove(a.out.as<char>() + begin * width, a.in.as<char>() + begin * width,
                   static_cast<size_t>((end - begin) * width));
    });
    return;
  }
  dispatch_float(a.in.dtype, [&](auto from) {
    dispatch_float(a.out.dtype, [&](auto to) {
      const auto* in = a.in.as<decltype(from)>();
      auto* out = a.out.as<decltype(to)>();
      ctx.parallel_for(a.in.size(), kPiece, [=](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) out[i] = from_float<decltype(to)>(to_float(in[i]));
      });
    });
  });
}

void combine(Context& ctx, const Combine& a) {
  const auto range = ML_DISPATCH(combine_range);
  ctx.parallel_for(a.out.size(), kPiece,
                   [&](int64_t begin, int64_t end, int) { range(a, begin, end); });
}

void activate(Context& ctx, const Activate& a) {
  const auto range = ML_DISPATCH(activate_range);
  ctx.parallel_for(a.x.size(), kPiece / 4,
                   [&](int64_t begin, int64_t end, int) { range(a, begin, end); });
}

void activate_backward(Context& ctx, const ActivateBackward& a) {
  const auto range = ML_DISPATCH(activate_backward_range);
  ctx.parallel_for(a.x.size(), kPiece / 4,
                   [&](int64_t begin, int64_t end, int) { range(a, begin, end); });
}

}  // namespace ml::cpu
#endif
