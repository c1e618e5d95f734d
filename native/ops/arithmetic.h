#pragma once
// Elementwise arithmetic of two operands, broadcast as in NumPy.
//   add   alpha * x + beta * y     sub   x - y     mul   x * y     div   x / y
//     x, y   [any]         float32  in, each a tensor or a constant
//     out    [broadcast]   float32  out
// out may be x or y where that has its shape.

#include "core/axes.h"
#include "ops/operands.h"

namespace ml {

// Stands for an operand that is not given: a tensor with one value everywhere.
struct Constant {
  float value = 0;
  Shape shape;
};

enum class ArithmeticKind : uint8_t { add, sub, mul, div };
constexpr int count_of(ArithmeticKind) { return static_cast<int>(ArithmeticKind::div) + 1; }

struct Arithmetic {
  View out, x, y;
  Constant constant_x, constant_y;
  ArithmeticKind kind = ArithmeticKind::add;
  float alpha = 1, beta = 1;  // of add

  const Shape& shape_x() const { return x ? x.shape : constant_x.shape; }
  const Shape& shape_y() const { return y ? y.shape : constant_y.shape; }
};

inline const char* name_of(ArithmeticKind kind) {
  constexpr const char* names[] = {"add", "sub", "mul", "div"};
  return names[static_cast<int>(kind)];
}

// x and y for each element of out; a constant, which is no view, stays where it is.
inline Loops<2> loops_of(const Arithmetic& a) {
  return broadcast_loops(a.out.shape, a.x.shape, a.y.shape);
}

template <class Input>
constexpr void inputs(const Arithmetic& a, Input&& input) {
  input("x", a.x, kInPlace);
  input("y", a.y, kInPlace);
}

inline Outputs<Arithmetic, 1> outputs(const Arithmetic& a) {
  const char* op = name_of(a.kind);
  if (a.x) expect_dtype(op, "x", a.x, DType::f32);
  if (a.y) expect_dtype(op, "y", a.y, DType::f32);
  return {op, {{&Arithmetic::out, "out", broadcast(op, "y", a.shape_x(), a.shape_y())}}};
}

}  // namespace ml
