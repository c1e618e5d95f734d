#pragma once
// Cross-entropy of the logits of each token, with p[t, :] = softmax(logits[t, :]):
//   CrossEntropy           loss[t] = logsumexp(logits[t, :]) - logits[t, targets[t]]
//   CrossEntropyBackward   dlogits[t, c] = dloss[t] * (p[t, c] - [c == targets[t]])
//     logits    [T, C]  float32  in
//     targets   [T]     int32    in
//     loss      [T]     float32  out
//     dloss     [T]     float32  in
//     dlogits   [T, C]  float32  out
// Target -1 marks a token to ignore: loss 0, gradient 0. Any other target outside [0, C) is
// ERR_INDEX_RANGE, found before anything is written. dlogits may be logits.

#include "ops/operands.h"

namespace ml {

struct CrossEntropy {
  View loss, logits, targets;
};

struct CrossEntropyBackward {
  View dlogits, dloss, logits, targets;
};

inline void check_logits(const char* op, const View& logits, const View& targets) {
  expect_rank(op, "logits", logits, 2, "[tokens, classes]");
  expect_dtype(op, "logits", logits, DType::f32);
  expect_int32(op, "targets", targets, {logits.dim(0)});
}

template <class Input>
constexpr void inputs(const CrossEntropy& a, Input&& input) {
  input("logits", a.logits);
  input("targets", a.targets);
}

inline Outputs<CrossEntropy, 1> outputs(const CrossEntropy& a) {
  check_logits("crossEntropy", a.logits, a.targets);
  return {"crossEntropy", {{&CrossEntropy::loss, "out", {a.logits.dim(0)}}}};
}

template <class Input>
constexpr void inputs(const CrossEntropyBackward& a, Input&& input) {
  input("dLoss", a.dloss);
  input("logits", a.logits, kInPlace);
  input("targets", a.targets);
}

inline Outputs<CrossEntropyBackward, 1> outputs(const CrossEntropyBackward& a) {
  const char* op = "crossEntropyBackward";
  check_logits(op, a.logits, a.targets);
  expect_float32(op, "dLoss", a.dloss, {a.logits.dim(0)});
  return {op, {{&CrossEntropyBackward::dlogits, "out", a.logits.shape}}};
}

}  // namespace ml
