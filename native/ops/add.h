#pragma once
// out[i] = alpha * x[i] + beta * y[i]
//   x, y   [any]    float32  in
//   out    [as x]   float32  out
// out may be x or y.

#include "ops/operands.h"

namespace ml {

struct Add {
  View out, x, y;
  float alpha = 1, beta = 1;
};

template <class Input>
constexpr void inputs(const Add& a, Input&& input) {
  input("x", a.x, kInPlace);
  input("y", a.y, kInPlace);
}

inline Outputs<Add, 1> outputs(const Add& a) {
  expect_dtype("add", "x", a.x, DType::f32);
  expect_same("add", "y", a.y, a.x);
  return {"add", {{&Add::out, "out", a.x.shape}}};
}

}  // namespace ml
