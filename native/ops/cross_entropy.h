#pragma once
// loss[t] = logsumexp(logits[t, :]) - logits[t, targets[t]];   dlogits[t, c] = dloss[t] *
// (softmax(logits[t, :])[c] - [c == targets[t]])
//   logits, dlogits [T, C] float32   targets [T] int32: -1 is ignored (loss 0, gradient 0), any
//   other outside [0, C) is ERR_INDEX_RANGE loss, dloss [T] float32

#include "core/check.h"

namespace ml {

struct CrossEntropy {
  View loss, logits, targets;
};

struct CrossEntropyBackward {
  View dlogits, dloss, logits, targets;
};

inline void check(const CrossEntropy& a) {
  expect_rank("crossEntropy", "logits", a.logits, 2, "[tokens, classes]");
  expect_dtype("crossEntropy", "logits", a.logits, DType::f32);
  expect_dtype("crossEntropy", "targets", a.targets, DType::i32);
  expect_shape("crossEntropy", "targets", a.targets, {a.logits.dim(0)});
  expect_float32("crossEntropy", "out", a.loss, {a.logits.dim(0)});
}

inline void check(const CrossEntropyBackward& a) {
  const char* op = "crossEntropyBackward";
  expect_rank(op, "logits", a.logits, 2, "[tokens, classes]");
  expect_dtype(op, "logits", a.logits, DType::f32);
  expect_dtype(op, "targets", a.targets, DType::i32);
  expect_shape(op, "targets", a.targets, {a.logits.dim(0)});
  expect_float32(op, "dLoss", a.dloss, {a.logits.dim(0)});
  expect_same(op, "out", a.dlogits, a.logits);
}

}  // namespace ml
