#pragma once
// y[i] = f(x[i]) for f exp, log (natural), sqrt or tanh, within a few ulp, and IEEE 754's values at
// zeros, infinities, NaN and outside the domain (sqrt(-0) is -0, log(0) is -Inf, log(-1) is NaN).
//   x      [any]    float32  in
//   y      [as x]   float32  out
// y may be x.

#include "ops/operands.h"

namespace ml {

enum class UnaryKind : uint8_t { exp, log, sqrt, tanh };
constexpr int count_of(UnaryKind) { return static_cast<int>(UnaryKind::tanh) + 1; }

struct Unary {
  View y, x;
  UnaryKind kind = UnaryKind::exp;
};

inline const char* name_of(UnaryKind kind) {
  constexpr const char* names[] = {"exp", "log", "sqrt", "tanh"};
  return names[static_cast<int>(kind)];
}

template <class Input>
constexpr void inputs(const Unary& a, Input&& input) {
  input("x", a.x, kInPlace);
}

inline Outputs<Unary, 1> outputs(const Unary& a) {
  const char* op = name_of(a.kind);
  expect_dtype(op, "x", a.x, DType::f32);
  return {op, {{&Unary::y, "out", a.x.shape}}};
}

}  // namespace ml
