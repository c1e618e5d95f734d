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

// The normal distribution's density phi(x) and distribution function Phi(x).
struct Normal {
  Vec density, cdf;
};

// For x <= 0
//   Phi(x) = exp(-x^2 / 2) erfcx(z) / 2,   z = -x / sqrt 2
// (1 + 2z) erfcx(z) is a polynomial in t = (z - 3.75) / (z + 3.75) (Shepherd and Laframboise 1981),
// here of degree 11 on Chebyshev nodes: relative error about 4e-7, in the tail too. The quotients
// by z + 3.75 and 1 + 2z are made by one division.
[[maybe_unused]] inline Normal normal(Vec x) {
  constexpr float kErfcx[] = {-0.000228747231f, 0.00039670465f, 0.00168866222f, -0.0098454915f,
                              0.0283964816f,    -0.0586459823f, 0.0922963694f,  -0.108814582f,
                              0.0822774172f,    0.00358631019f, -0.14024061f,   1.23751259f};
  const Vec z = (x < 0.0f ? -x : x) * 0.70710678118654752f;
  const Vec a = z + 3.75f, b = fma(z, set1(2.0f), set1(1.0f)), quotient = 1.0f / (a * b);
  const Vec t = (z - 3.75f) * b * quotient;
  Vec p = set1(kErfcx[0]);
  for (int i = 1; i < static_cast<int>(sizeof(kErfcx) / sizeof(float)); ++i)
    p = fma(p, t, set1(kErfcx[i]));
  const Vec e = exp(-0.5f * x * x), tail = 0.5f * e * p * (a * quotient);
  return {e * 0.39894228040143268f, x < 0.0f ? tail : 1.0f - tail};
}

// Phi is 0 or 1 exactly beyond, and Inf makes no NaN; NaN stays.
[[maybe_unused]] inline Vec bounded_to_40(Vec x) {
  return x < -40.0f ? set1(-40.0f) : (x > 40.0f ? set1(40.0f) : x);
}

[[maybe_unused]] inline Vec gelu(Vec x) {
  const Vec y = x * normal(bounded_to_40(x)).cdf;
  return x == -__builtin_inff() ? set1(-0.0f) : y;  // -Inf * 0
}

[[maybe_unused]] inline Vec gelu_derivative(Vec x) {
  const Vec bounded = bounded_to_40(x);  // no Inf * 0
  const Normal n = normal(bounded);
  return fma(bounded, n.density, n.cdf);
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
