#pragma once
// AdamW (Loshchilov and Hutter 2019), with c the step:
//   m = b1 m + (1 - b1) g
//   v = b2 v + (1 - b2) g^2
//   x = x (1 - lr wd) - lr (m / (1 - b1^c)) / (sqrt(v / (1 - b2^c)) + eps)

#include "optim/rule.h"

namespace ml {

// base^exponent by squaring: bitwise identical on every device.
ML_HOST_DEVICE constexpr double power(double base, int32_t exponent) {
  double result = 1;
  for (; exponent > 0; exponent >>= 1, base *= base)
    if (exponent & 1) result *= base;
  return result;
}

struct AdamWRule {
  static constexpr int kStates = 2;  // states as wide as a row
  float keep, eps, b1, b2, a1, a2, rate, correction2;
  ML_HOST_DEVICE explicit AdamWRule(const Hyper& h, int32_t step)
      : keep(1.0f - h.lr * h.weight_decay), eps(h.eps), b1(h.beta1), b2(h.beta2) {
    a1 = static_cast<float>(1.0 - static_cast<double>(h.beta1));
    a2 = static_cast<float>(1.0 - static_cast<double>(h.beta2));
    rate = static_cast<float>(h.lr / (1.0 - power(h.beta1, step)));
    correction2 = static_cast<float>(1.0 / (1.0 - power(h.beta2, step)));
  }

  template <class F, class Sqrt>
  [[gnu::always_inline]]
  ML_HOST_DEVICE void operator()(F& x, F& m, F& v, F g, Sqrt sqrt) const {
    m = m * b1 + g * a1;
    v = v * b2 + g * g * a2;
    x = x * keep - m * rate / (sqrt(v * correction2) + eps);
  }
};

}  // namespace ml
