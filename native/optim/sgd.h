#pragma once
// Stochastic gradient descent:
//   x = x (1 - lr wd) - lr g

#include "optim/rule.h"

namespace ml {

struct SgdRule {
  static constexpr int kStates = 0;  // states as wide as a row
  float lr, keep;                    // keep = 1 - lr wd
  ML_HOST_DEVICE explicit SgdRule(const Hyper& h, int32_t)
      : lr(h.lr), keep(1.0f - h.lr * h.weight_decay) {}

  // F is float or a vector of floats.
  template <class F, class Sqrt>
  [[gnu::always_inline]]
  ML_HOST_DEVICE void operator()(F& x, F&, F&, F g, Sqrt) const {
    x = x * keep - g * lr;
  }
};

}  // namespace ml
