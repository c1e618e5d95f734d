#pragma once
//   Linear            y = x W^T + bias
//   LinearBackward    dx = dy W,   dweight += dy^T x,   dbias += sum over rows of dy
//     x         [R, in]     float32 | float16 | bfloat16  in
//     weight    [out, in]   as x                          in
//     bias      [out]       float32  in, optional
//     y         [R, out]    float32  out
//     dy        [R, out]    float32  in
//     dx        [R, in]     float32  out, optional; `accumulate_dx`: added to
//     dweight   [out, in]   float32  added to, optional
//     dbias     [out]       float32  added to, optional
// Sums are float32. Each output element is summed over its inner dimension in one fixed order: the
// bits do not depend on threads. `compute` bfloat16 rounds x, weight and dy for their products, and
// weight may then have a float dtype of its own; bias and dbias stay float32.

#include "core/compute.h"
#include "ops/operands.h"

namespace ml {

struct Linear {
  View y, x, weight, bias;
  Compute compute = Compute::float32;
};

struct LinearBackward {
  View dx, dweight, dbias, dy, x, weight;
  bool accumulate_dx = false;
  Compute compute = Compute::float32;
};

// Checks x and weight; returns the shape of y.
inline Shape check_operands(const char* op, const View& x, const View& weight, Compute compute) {
  expect_rank(op, "x", x, 2, "[rows, in]");
  expect_rank(op, "weight", weight, 2, "[out, in]");
  expect_float(op, "x", x);
  expect_second_operand(op, "weight", weight, x.dtype, compute);
  expect_shape(op, "weight", weight, {weight.dim(0), x.dim(1)});
  return {x.dim(0), weight.dim(0)};
}

template <class Input>
constexpr void inputs(const Linear& a, Input&& input) {
  input("x", a.x);
  input("weight", a.weight);
  input("bias", a.bias);
}

inline Outputs<Linear, 1> outputs(const Linear& a) {
  const Shape y = check_operands("linear", a.x, a.weight, a.compute);
  if (a.bias) expect_float32("linear", "bias", a.bias, {a.weight.dim(0)});
  return {"linear", {{&Linear::y, "out", y}}};
}

template <class Input>
constexpr void inputs(const LinearBackward& a, Input&& input) {
  input("dy", a.dy);
  input("x", a.x);
  input("weight", a.weight);
}

inline Outputs<LinearBackward, 3> outputs(const LinearBackward& a) {
  const char* op = "linearBackward";
  expect_float32(op, "dy", a.dy, check_operands(op, a.x, a.weight, a.compute));
  return {op,
          {{.view = &LinearBackward::dx,
            .name = "out.dx",
            .shape = a.x.shape,
            .optional = true,
            .added_to = a.accumulate_dx},
           {.view = &LinearBackward::dweight,
            .name = "into.weight",
            .shape = a.weight.shape,
            .optional = true,
            .added_to = true},
           {.view = &LinearBackward::dbias,
            .name = "into.bias",
            .shape = {a.weight.dim(0)},
            .optional = true,
            .added_to = true}}};
}

}  // namespace ml
