#pragma once
// Sum, mean and max over a set of axes.
//   Reduce        y[kept] = sum, mean or max of x over the reduced axes
//   SumBackward   dx[i] = dy[kept], divided by the number of elements for a mean
//   MaxBackward   dx[i] = dy[kept] at the first position of the reduced axes where x is y, else 0
//     x      [any]    float32  in
//     dy     [kept]   float32  in: x's axes without the reduced ones, or with them as sizes of 1
//     y      [kept]   float32  out; in of MaxBackward
//     dx     [as x]   float32  out
// NaN counts as the greatest. Of no elements the sum is 0 and the mean NaN; there is no max. Sums
// are of float32 sums of blocks that depend on the shape alone, and so do the bits.
// dx of MaxBackward may be x.

#include "ops/arithmetic.h"

namespace ml {

enum class ReduceKind : uint8_t { sum, mean, max };
constexpr int count_of(ReduceKind) { return static_cast<int>(ReduceKind::max) + 1; }

struct Reduce {
  View y, x;
  AxisSet axes = 0;
  bool keep_axes = false;  // the reduced ones, as sizes of 1
  ReduceKind kind = ReduceKind::sum;
};

struct SumBackward {
  View dx, dy;
  Shape shape;  // of x
  AxisSet axes = 0;
  bool keep_axes = false;
  ReduceKind kind = ReduceKind::sum;  // or mean
};

struct MaxBackward {
  View dx, dy, x, y;
  AxisSet axes = 0;
  bool keep_axes = false;
};

// How an element of x belongs to an output.
struct Reduction {
  Loops<1> kept, reduced;  // strides of x
  int64_t outputs = 1, count = 1;
  bool along_rows;  // the innermost axis is reduced: elements of an output are contiguous; else
                    // outputs are

  Reduction(const Shape& x, AxisSet axes) {
    int64_t stride[kMaxRank], next = 1;
    for (int i = x.rank - 1; i >= 0; next *= x.dims[i--]) stride[i] = next;
    for (int i = 0; i < x.rank; ++i) {
      (has_axis(axes, i) ? reduced : kept).add(x.dims[i], {stride[i]});
      (has_axis(axes, i) ? count : outputs) *= x.dims[i];
    }
    along_rows = kept.rank == 0 || kept.stride[0][kept.rank - 1] != 1;
  }
};

inline Shape reduced_shape(const Shape& x, AxisSet axes, bool keep_axes) {
  Shape y;
  for (int i = 0; i < x.rank; ++i)
    if (!has_axis(axes, i))
      y.dims[y.rank++] = x.dims[i];
    else if (keep_axes)
      y.dims[y.rank++] = 1;
  return y;
}

inline const char* name_of(ReduceKind kind) {
  constexpr const char* names[] = {"sum", "mean", "max"};
  return names[static_cast<int>(kind)];
}

template <class Input>
constexpr void inputs(const Reduce& a, Input&& input) {
  input("x", a.x);
}

inline Outputs<Reduce, 1> outputs(const Reduce& a) {
  const char* op = name_of(a.kind);
  expect_dtype(op, "x", a.x, DType::f32);
  const Reduction r(a.x.shape, a.axes);
  expect(a.kind != ReduceKind::max || r.count > 0 || r.outputs == 0, Code::shape, op, "x",
         "have elements along the axes", to_string(a.x.shape));
  return {op, {{&Reduce::y, "out", reduced_shape(a.x.shape, a.axes, a.keep_axes)}}};
}

template <class Input>
constexpr void inputs(const SumBackward& a, Input&& input) {
  input("dy", a.dy);
}

inline Outputs<SumBackward, 1> outputs(const SumBackward& a) {
  const char* op = a.kind == ReduceKind::mean ? "meanBackward" : "sumBackward";
  expect_float32(op, "dy", a.dy, reduced_shape(a.shape, a.axes, a.keep_axes));
  return {op, {{&SumBackward::dx, "out", a.shape}}};
}

// SumBackward as arithmetic: dy, broadcast to the shape of x, over a constant.
inline Arithmetic as_division(const SumBackward& a) {
  View dy = a.dy;
  dy.shape = reduced_shape(a.shape, a.axes, true);
  const int64_t count = Reduction(a.shape, a.axes).count;
  const float divisor = a.kind == ReduceKind::mean ? static_cast<float>(count) : 1.0f;
  return {.out = a.dx,
          .x = dy,
          .y = {},
          .constant_x = {},
          .constant_y = {divisor, {}},
          .kind = ArithmeticKind::div};
}

template <class Input>
constexpr void inputs(const MaxBackward& a, Input&& input) {
  input("dy", a.dy);
  input("x", a.x, kInPlace);
  input("y", a.y);
}

inline Outputs<MaxBackward, 1> outputs(const MaxBackward& a) {
  const char* op = "maxBackward";
  expect_dtype(op, "x", a.x, DType::f32);
  const Shape y = reduced_shape(a.x.shape, a.axes, a.keep_axes);
  expect_float32(op, "dy", a.dy, y);
  expect_float32(op, "y", a.y, y);
  return {op, {{&MaxBackward::dx, "out", a.x.shape}}};
}

}  // namespace ml
