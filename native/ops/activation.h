#pragma once
// Activations, element by element.   all tensors of one shape, float32
//   Activate           y[i] = f(x[i])
//   ActivateBackward   dx[i] (+)= dy[i] * f'(x[i])

#include "core/activation.h"
#include "core/check.h"

namespace ml {

struct Activate {
  View y, x;
  Activation kind = Activation::relu;
};

struct ActivateBackward {
  View dx, dy, x;
  Activation kind = Activation::relu;
  bool accumulate = false;
};

inline const char* name_of(Activation kind, bool backward) {
  constexpr const char* names[][2] = {{"relu", "reluBackward"},
                                      {"gelu", "geluBackward"},
                                      {"silu", "siluBackward"},
                                      {"sigmoid", "sigmoidBackward"}};
  return names[static_cast<int>(kind)][backward];
}

inline void check(const Activate& a) {
  expect_dtype(name_of(a.kind, false), "x", a.x, DType::f32);
  expect_same(name_of(a.kind, false), "out", a.y, a.x);
}

inline void check(const ActivateBackward& a) {
  expect_dtype(name_of(a.kind, true), "x", a.x, DType::f32);
  expect_same(name_of(a.kind, true), "dy", a.dy, a.x);
  expect_same(name_of(a.kind, true), "out", a.dx, a.x);
}

}  // namespace ml
