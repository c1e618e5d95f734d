#pragma once
// Softmax over the last axis: y = exp(x - max) / sum; backward dx = y * (dy - sum(y * dy)). All
// [..., n] float32.

#include "core/check.h"

namespace ml {

struct Softmax {
  View y, x;
};

struct SoftmaxBackward {
  View dx, dy, y;
};

inline void check(const Softmax& a) {
  expect_dtype("softmax", "x", a.x, DType::f32);
  expect(a.x.shape.rank >= 1, Code::shape, "softmax", "x", "have at least one axis", "[]");
  expect_same("softmax", "out", a.y, a.x);
}

inline void check(const SoftmaxBackward& a) {
  expect_dtype("softmaxBackward", "y", a.y, DType::f32);
  expect(a.y.shape.rank >= 1, Code::shape, "softmaxBackward", "y", "have at least one axis", "[]");
  expect_same("softmaxBackward", "dy", a.dy, a.y);
  expect_same("softmaxBackward", "out", a.dx, a.y);
}

}  // namespace ml
