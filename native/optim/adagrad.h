#pragma once
// Adagrad (Duchi et al. 2011):
//   v = v + g^2
//   x = x (1 - lr wd) - lr g / (sqrt(v) + eps)

#include "optim/rule.h"

namespace ml {

struct AdagradRule {
  static constexpr int kStates = 1;  // states as wide as a row
  float lr, keep, eps;
  ML_HOST_DEVICE explicit AdagradRule(const Hyper& h, int32_t)
      : lr(h.lr), keep(1.0f - h.lr * h.weight_decay), eps(h.eps) {}

  template <class F, class Sqrt>
  [[gnu::always_inline]]
  ML_HOST_DEVICE void operator()(F& x, F& v, F&, F g, Sqrt sqrt) const {
    v = v + g * g;
    x = x * keep - g * lr / (sqrt(v) + eps);
  }
};

}  // namespace ml
