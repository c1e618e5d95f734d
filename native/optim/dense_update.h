#pragma once
// One optimizer step of dense parameters, and the count of steps.
//   DenseUpdate    param = rule(param, grad, states, next_step(step)), of each parameter
//   StepAdvance    step[0] = next_step(step[0]), after the updates of a step: one that can't be
//                  counted has not used a count that nobody has seen
//     step           [1]           int32    the steps before this one; StepAdvance: in, out
//     param          [any]         float32  in, out
//     grad           [as param]    float32  in
//     state1, state2 [as param]    float32  in, out, as the rule needs
//     rates          [any]         float32  in, optional: rates[rate] is the learning rate of a
//                    parameter, in place of that in its hyper
// The count lives on the device, so that recorded work advances it; so do rates that change.

#include <vector>

#include "ops/operands.h"
#include "optim/rule.h"

namespace ml {

struct StepAdvance {
  View step;
};

struct DenseParameter {
  View param, grad, state1, state2;
  Hyper hyper;
  int64_t rate = 0;
};

struct DenseUpdate {
  // The optimizer has seen to it that the parameters share no memory.
  static constexpr bool kApart = true;

  View step, rates;
  std::vector<DenseParameter> parameters;
  Rule rule = Rule::sgd;
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
  input("step", a.step);
  input("rates", a.rates);
  for (const DenseParameter& p : a.parameters) input("grad", p.grad);
}

template <class Output>
constexpr void outputs(const DenseUpdate& a, Output&& output) {
  for (const DenseParameter& p : a.parameters) {
    output("parameter", p.param, Write::updated);
    output("state1", p.state1, Write::updated);
    output("state2", p.state2, Write::updated);
  }
}

inline void check(const DenseUpdate& a) {
  for (const DenseParameter& p : a.parameters) {
    expect_float32("optimizer.step", "grad", p.grad, p.param.shape);
    expect_dtype("optimizer.step", "parameter", p.param, DType::f32);
  }
}

}  // namespace ml
