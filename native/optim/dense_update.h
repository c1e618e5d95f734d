#pragma once
// One optimizer step of a dense parameter, and the count of steps.
//   StepAdvance    step[0] += 1, before the updates of a step; the first step is 1
//   DenseUpdate    param = rule(param, grad, states, step)
//     step           [1]           int32    in; StepAdvance: in, out
//     param          [any]         float32  in, out
//     grad           [as param]    float32  in
//     state1, state2 [as param]    float32  in, out, as the rule needs
// The count lives on the device, so that a recorded graph advances it.

#include "core/check.h"
#include "optim/rule.h"

namespace ml {

struct StepAdvance {
  View step;
};

struct DenseUpdate {
  View param, grad, state1, state2, step;
  Rule rule = Rule::sgd;
  Hyper hyper;
};

// The optimizer makes the step count and the states itself; what can be wrong is the caller's.
inline void check(const StepAdvance&) {}

inline void check(const DenseUpdate& a) {
  expect_float32("optimizer.step", "grad", a.grad, a.param.shape);
  expect_dtype("optimizer.step", "parameter", a.param, DType::f32);
}

}  // namespace ml
