#pragma once
// Row-wise Adagrad: Adagrad with one state a row, as FBGEMM's tables have it.
//   v[row] = v[row] + mean over the row of g^2, summed in float64
//   x = x (1 - lr wd) - lr g / (sqrt(v[row]) + eps)

#include <cfloat>

#include "optim/rule.h"

namespace ml {

struct RowwiseAdagradRule {
  static constexpr int kStates = 0;  // states as wide as a row
  float lr, keep, eps;
  ML_HOST_DEVICE explicit RowwiseAdagradRule(const Hyper& h, int32_t)
      : lr(h.lr), keep(1.0f - h.lr * h.weight_decay), eps(h.eps) {}

  // root = sqrt(v[row]) + eps, with the new v
  template <class F>
  [[gnu::always_inline]]
  ML_HOST_DEVICE void operator()(F& x, F g, float root) const {
    // A rate beyond the largest float would make a gradient of 0 NaN.
    const float rate = lr / root;
    x = x * keep - g * (rate > FLT_MAX ? FLT_MAX : rate);
  }
};

}  // namespace ml
