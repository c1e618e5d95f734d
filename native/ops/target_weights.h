#pragma once
// What each target counts in the mean of a cross-entropy. With c the number of targets that are
// neither -1 nor ignore_index:
//   kept[t] = targets[t], weights[t] = 1 / c   where targets[t] counts
//   kept[t] = -1,         weights[t] = 0       elsewhere
//     targets   [T]   int32    in
//     kept      [T]   int32    out, may be targets
//     weights   [T]   float32  out
// c = 0 with T > 0 is ERR_VALUE, found before anything is written.

#include "ops/operands.h"

namespace ml {

struct TargetWeights {
  View kept, weights, targets;
  int32_t ignore_index = -1;
};

ML_HOST_DEVICE constexpr bool target_counts(int32_t target, int32_t ignore_index) {
  return target != -1 && target != ignore_index;
}

template <class Input>
constexpr void inputs(const TargetWeights& a, Input&& input) {
  input("targets", a.targets, kInPlace);
}

inline Outputs<TargetWeights, 2> outputs(const TargetWeights& a) {
  const char* op = "targetWeights";
  expect_rank(op, "targets", a.targets, 1, "[tokens]");
  expect_dtype(op, "targets", a.targets, DType::i32);
  const Shape shape = a.targets.shape;
  return {op,
          {{&TargetWeights::kept, "out.kept", shape, DType::i32},
           {&TargetWeights::weights, "out.weights", shape}}};
}

}  // namespace ml
