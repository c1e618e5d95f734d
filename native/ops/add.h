#pragma once
// out[i] = alpha * x[i] + beta * y[i].   out, x, y of one shape, float32; out may be x or y

#include "core/check.h"

namespace ml {

struct Add {
  View out, x, y;
  float alpha = 1, beta = 1;
};

inline void check(const Add& a) {
  expect_dtype("add", "x", a.x, DType::f32);
  expect_same("add", "y", a.y, a.x);
  expect_same("add", "out", a.out, a.x);
}

}  // namespace ml
