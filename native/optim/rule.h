#pragma once
// The update rules and their hyperparameters. The kernel of each rule is optim/<rule>.h, the same
// arithmetic, all float32, for a dense parameter and for the touched rows of a table.

#include <cstdint>

#include "core/half.h"

namespace ml {

enum class Rule : uint8_t { sgd, adagrad, rowwise_adagrad, adamw };
constexpr int count_of(Rule) { return static_cast<int>(Rule::adamw) + 1; }

struct Hyper {
  float lr = 0, beta1 = 0.9f, beta2 = 0.999f, eps = 1e-8f, weight_decay = 0;
};

// `rate`: a learning rate in memory, which takes the place of that in `h`; nullptr: none.
ML_HOST_DEVICE inline Hyper with_rate(Hyper h, const float* rate) {
  if (rate) h.lr = *rate;
  return h;
}

// The step that follows `count` steps, up to the largest int32, at which the bias corrections are
// long 1. A count that was loaded from a state dict may be any: one below 0 is taken as 0.
ML_HOST_DEVICE constexpr int32_t next_step(int32_t count) {
  return count < 0 ? 1 : (count < INT32_MAX ? count + 1 : count);
}

}  // namespace ml
