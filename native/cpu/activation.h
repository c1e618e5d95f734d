// Activations and their derivatives on Vec. Included inside an instruction-set pass, like simd.h.
//
//   gelu(x) = x Phi(x) = x/2 (1 + erf(x / sqrt 2)),   gelu'(x) = Phi(x) + x phi(x)
//   silu(x) = x sigmoid(x),                           silu'(x) = s (1 + x (1 - s)), s = sigmoid(x)

#if defined(ML_CPU_ACTIVATION_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_CPU_ACTIVATION_H
#undef ML_CPU_ACTIVATION_H
#else
#define ML_CPU_ACTIVATION_H
#endif

#include "core/activation.h"

namespace ml::cpu::ML_ISA {
namespace {

// Phi(x), the normal distribution function: for x <= 0
//   Phi(x) = exp(-x^2 / 2) erfcx(z) / 2,   z = -x / sqrt 2
// (1 + 2z) erfcx(z) is a polynomial in t = (z - 3.75) / (z + 3.75) (Shepherd and Laframboise 1981),
// here of degree 11 on Chebyshev nodes: relative error about 3e-7, in the tail too.
[[maybe_unused]] inline Vec normal_cdf(Vec x) {
  constexpr float kErfcx[] = {-0.000228747231f, 0.00039670465f, 0.00168866222f, -0.0098454915f,
                              0.0283964816f,    -0.0586459823f, 0.0922963694f,  -0.108814582f,
                              0.0822774172f,    0.00358631019f, -0.14024061f,   1.23751259f};
  // 0 and 1 are exact beyond, and Inf makes no NaN
  x = x < -40.0f ? set1(-40.0f) : (x > 40.0f ? set1(40.0f) : x);
  const Vec z = (x < 0.0f ? -x : x) * 0.70710678118654752f;
  const Vec t = (z - 3.75f) / (z + 3.75f);
  Vec p = set1(kErfcx[0]);
  for (int i = 1; i < static_cast<int>(sizeof(kErfcx) / sizeof(float)); ++i)
    p = fma(p, t, set1(kErfcx[i]));
  const Vec tail = 0.5f * exp(-0.5f * x * x) * p / (1.0f + 2.0f * z);
  return x < 0.0f ? tail : 1.0f - tail;
}

[[maybe_unused]] inline Vec gelu(Vec x) {
  const Vec y = x * normal_cdf(x);
  return x == -__builtin_inff() ? set1(-0.0f) : y;  // -Inf * 0
}

[[maybe_unused]] inline Vec gelu_derivative(Vec x) {
  // no Inf * 0; NaN stays
  const Vec bounded = x < -40.0f ? set1(-40.0f) : (x > 40.0f ? set1(40.0f) : x);
  return normal_cdf(bounded) + bounded * exp(-0.5f * bounded * bounded) * 0.39894228040143268f;
}

[[maybe_unused]] inline Vec silu(Vec x) {
  const Vec y = x * sigmoid(x);
  return x == -__builtin_inff() ? set1(-0.0f) : y;
}

[[maybe_unused]] inline Vec silu_derivative(Vec x) {
  const Vec s = sigmoid(x);
  const Vec bounded = x < -100.0f ? set1(-100.0f) : (x > 100.0f ? set1(100.0f) : x);
  return s * (1.0f + bounded * (1.0f - s));
}

[[maybe_unused]] inline Vec activate(Activation kind, Vec x) {
  switch (kind) {
    case Activation::relu: return x < 0.0f ? Vec{} : x;  // NaN stays
    case Activation::gelu: return gelu(x);
    case Activation::silu: return silu(x);
    case Activation::sigmoid: break;
  }
  return sigmoid(x);
}

[[maybe_unused]] inline Vec activate_derivative(Activation kind, Vec x) {
  switch (kind) {
    case Activation::relu: return x > 0.0f ? set1(1.0f) : (x != x ? x : Vec{});
    case Activation::gelu: return gelu_derivative(x);
    case Activation::silu: return silu_derivative(x);
    case Activation::sigmoid: break;
  }
  const Vec s = sigmoid(x);
  return s * (1.0f - s);
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
