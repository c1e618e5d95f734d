#pragma once
// One optimizer step of a dense parameter, and the count of steps.
//   DenseUpdate    param = rule(param, grad, states, next_step(step))
//   StepAdvance    step[0] = next_step(step[0]), after the updates of a step: one that can't be
//                  counted has not used a count that nobody has seen
//     step           [1]           int32    the steps before this one; StepAdvance: in, out
//     param          [any]         float32  in, out
//     grad           [as param]    float32  in
//     state1, state2 [as param]    float32  in, out, as the rule needs
// The count lives on the device, so that a recorded graph advances it.

#include "ops/operands.h"
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

template <class Input>
constexpr void inputs(const StepAdvance&, Input&&) {}

template <class Output>
constexpr void outputs(const StepAdvance& a, Output&& output) {
  output("step", a.step, Write::updated);
}

// The optimizer makes the step count and the states itself; what can be wrong is the caller's.
inline void check(const StepAdvance&) {}

template <class Input>
constexpr void inputs(const DenseUpdate& a, Input&& input) {
  input("grad", a.grad);
  input("step", a.step);
}

template <class Output>
constexpr void outputs(const DenseUpdate& a, Output&& output) {
  output("parameter", a.param, Write::updated);
  output("state1", a.state1, Write::updated);
  output("state2", a.state2, Write::updated);
}

inline void check(const DenseUpdate& a) {
  expect_float32("optimizer.step", "grad", a.grad, a.param.shape);
  expect_dtype("optimizer.step", "parameter", a.param, DType::f32);
}

}  // namespace ml
