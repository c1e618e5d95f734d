#pragma once
// Softmax over the last axis.
//   Softmax           y = exp(x - max(x)) / sum(exp(x - max(x)))
//   SoftmaxBackward   dx = y * (dy - sum(y * dy))
//     x, dy   [..., n]  float32  in
//     y       [..., n]  float32  out; backward: in
//     dx      [..., n]  float32  out
// y may be x, and dx may be dy or y.

#include "ops/operands.h"

namespace ml {

struct Softmax {
  View y, x;
};

struct SoftmaxBackward {
  View dx, dy, y;
};

template <class Input>
constexpr void inputs(const Softmax& a, Input&& input) {
  input("x", a.x, kInPlace);
}

inline Outputs<Softmax, 1> outputs(const Softmax& a) {
  expect_dtype("softmax", "x", a.x, DType::f32);
  expect_last_axis("softmax", "x", a.x);
  return {"softmax", {{&Softmax::y, "out", a.x.shape}}};
}

template <class Input>
constexpr void inputs(const SoftmaxBackward& a, Input&& input) {
  input("dy", a.dy, kInPlace);
  input("y", a.y, kInPlace);
}

inline Outputs<SoftmaxBackward, 1> outputs(const SoftmaxBackward& a) {
  const char* op = "softmaxBackward";
  expect_dtype(op, "y", a.y, DType::f32);
  expect_last_axis(op, "y", a.y);
  expect_same(op, "dy", a.dy, a.y);
  return {op, {{&SoftmaxBackward::dx, "out", a.y.shape}}};
}

}  // namespace ml
