#pragma once
// Activations, element by element: relu, gelu (exact), silu and sigmoid (core/activation.h).
//   Activate           y[i] = f(x[i])
//   ActivateBackward   dx[i] = dy[i] * f'(x[i])
//     x, dy    [any]    float32  in
//     y, dx    [as x]   float32  out
// y may be x, and dx may be dy or x.

#include "core/activation.h"
#include "ops/operands.h"

namespace ml {

struct Activate {
  View y, x;
  Activation kind = Activation::relu;
};

struct ActivateBackward {
  View dx, dy, x;
  Activation kind = Activation::relu;
};

inline const char* name_of(Activation kind, bool backward) {
  constexpr const char* names[][2] = {{"relu", "reluBackward"},
                                      {"gelu", "geluBackward"},
                                      {"silu", "siluBackward"},
                                      {"sigmoid", "sigmoidBackward"}};
  return names[static_cast<int>(kind)][backward];
}

template <class Input>
constexpr void inputs(const Activate& a, Input&& input) {
  input("x", a.x, kInPlace);
}

inline Outputs<Activate, 1> outputs(const Activate& a) {
  const char* op = name_of(a.kind, false);
  expect_dtype(op, "x", a.x, DType::f32);
  return {op, {{&Activate::y, "out", a.x.shape}}};
}

template <class Input>
constexpr void inputs(const ActivateBackward& a, Input&& input) {
  input("dy", a.dy, kInPlace);
  input("x", a.x, kInPlace);
}

inline Outputs<ActivateBackward, 1> outputs(const ActivateBackward& a) {
  const char* op = name_of(a.kind, true);
  expect_dtype(op, "x", a.x, DType::f32);
  expect_same(op, "dy", a.dy, a.x);
  return {op, {{&ActivateBackward::dx, "out", a.x.shape}}};
}

}  // namespace ml
