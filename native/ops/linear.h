#pragma once
// Linear            y  = x W^T + bias
// LinearBackward    dx = dy W,   dweight += dy^T x,   dbias += sum over rows of dy
//   x [R, in]   weight [out, in]   float32, float16 or bfloat16, both alike
//   bias [out] optional   y, dy [R, out]   dx, dweight, dbias as x, weight, bias       float32, and
//   so are all sums
// Each output element is summed over its inner dimension in one fixed order: the bits do not depend
// on threads. In the backward every output is optional; `accumulate_dx` adds to dx, parameters'
// gradients are always added to.

#include "core/check.h"

namespace ml {

struct Linear {
  View y, x, weight, bias;
};

struct LinearBackward {
  View dx, dweight, dbias, dy, x, weight;
  bool accumulate_dx = false;
};

inline void check_operands(const char* op, const View& x, const View& weight) {
  expect_float(op, "x", x);
  expect_dtype(op, "weight", weight, x.dtype);
  expect_shape(op, "weight", weight, {weight.dim(0), x.dim(1)});
}

inline void check(const Linear& a) {
  expect_rank("linear", "x", a.x, 2, "[rows, in]");
  expect_rank("linear", "weight", a.weight, 2, "[out, in]");
  check_operands("linear", a.x, a.weight);
  if (a.bias) expect_float32("linear", "bias", a.bias, {a.weight.dim(0)});
  expect_float32("linear", "out", a.y, {a.x.dim(0), a.weight.dim(0)});
}

inline void check(const LinearBackward& a) {
  const char* op = "linearBackward";
  expect_rank(op, "x", a.x, 2, "[rows, in]");
  expect_rank(op, "weight", a.weight, 2, "[out, in]");
  check_operands(op, a.x, a.weight);
  expect_float32(op, "dy", a.dy, {a.x.dim(0), a.weight.dim(0)});
  if (a.dx) expect_float32(op, "dx", a.dx, a.x.shape);
  if (a.dweight) expect_float32(op, "into.weight", a.dweight, a.weight.shape);
  if (a.dbias) expect_float32(op, "into.bias", a.dbias, {a.weight.dim(0)});
}

}  // namespace ml
