#pragma once
// Linear maps of groups of rows, each group by a weight of its own: the experts of a mixture. Group
// g is rows offsets[g] … offsets[g + 1] of x.
//   GroupedLinear           y[r] = weights[g] x[r] + bias[g]   for the rows r of group g
//   GroupedLinearBackward   dx[r] = weights[g]^T dy[r],   dweights[g] += sum over r of dy[r]
//   x[r]^T,
//                           dbias[g] += sum over r of dy[r]
//     x         [R, in]        float32 | float16 | bfloat16  in
//     weights   [G, out, in]   as x     in
//     offsets   [G + 1]        int32    in: offsets[0] = 0, ascending to R
//     bias      [G, out]       float32  in, optional
//     y         [R, out]       float32  out
//     dy        [R, out]       float32  in
//     dx        [R, in]        float32  out, optional
//     dweights  [G, out, in]   float32  added to, optional
//     dbias     [G, out]       float32  added to, optional
// R < 2^31, G < 2^31. Offsets that do not ascend from 0 to R are ERR_VALUE, found before anything
// is written. Sums are float32, of dbias float64 over chunks of rows, each in one fixed order: the
// bits do not depend on threads. `compute` bfloat16 rounds x, weights and dy for their products,
// and dbias adds dy as it is.

#include "core/compute.h"
#include "core/limits.h"
#include "ops/operands.h"

namespace ml {

struct GroupedLinear {
  View y, x, weights, offsets, bias;
  Compute compute = Compute::float32;
};

struct GroupedLinearBackward {
  View dx, dweights, dbias, dy, x, weights, offsets;
  Compute compute = Compute::float32;
};

// Checks x, weights and offsets; returns the shape of y.
inline Shape check_groups(const char* op, const View& x, const View& weights, const View& offsets) {
  expect_rank(op, "x", x, 2, "[rows, in]");
  expect_rank(op, "weights", weights, 3, "[groups, out, in]");
  expect_float(op, "x", x);
  expect_dtype(op, "weights", weights, x.dtype);
  expect_shape(op, "weights", weights, {weights.dim(0), weights.dim(1), x.dim(1)});
  expect(x.dim(0) < kIndexLimit, Code::shape, op, "x", "have fewer than 2^31 rows",
         to_string(x.shape));
  expect(weights.dim(0) < kIndexLimit, Code::shape, op, "weights", "be fewer than 2^31 groups",
         to_string(weights.shape));
  expect_int32(op, "offsets", offsets, {weights.dim(0) + 1});
  expect(weights.dim(0) > 0 || x.dim(0) == 0, Code::shape, op, "weights",
         "be of at least one group, as \"x\" has rows", to_string(weights.shape));
  return {x.dim(0), weights.dim(1)};
}

template <class Input>
constexpr void inputs(const GroupedLinear& a, Input&& input) {
  input("x", a.x);
  input("weights", a.weights);
  input("offsets", a.offsets);
  input("bias", a.bias);
}

inline Outputs<GroupedLinear, 1> outputs(const GroupedLinear& a) {
  const char* op = "groupedLinear";
  const Shape y = check_groups(op, a.x, a.weights, a.offsets);
  if (a.bias) expect_float32(op, "bias", a.bias, {a.weights.dim(0), a.weights.dim(1)});
  return {op, {{&GroupedLinear::y, "out", y}}};
}

template <class Input>
constexpr void inputs(const GroupedLinearBackward& a, Input&& input) {
  input("dy", a.dy);
  input("x", a.x);
  input("weights", a.weights);
  input("offsets", a.offsets);
}

inline Outputs<GroupedLinearBackward, 3> outputs(const GroupedLinearBackward& a) {
  const char* op = "groupedLinearBackward";
  expect_float32(op, "dy", a.dy, check_groups(op, a.x, a.weights, a.offsets));
  return {
      op,
      {{.view = &GroupedLinearBackward::dx, .name = "out.dx", .shape = a.x.shape, .optional = true},
       {.view = &GroupedLinearBackward::dweights,
        .name = "into.weights",
        .shape = a.weights.shape,
        .optional = true,
        .added_to = true},
       {.view = &GroupedLinearBackward::dbias,
        .name = "into.bias",
        .shape = {a.weights.dim(0), a.weights.dim(1)},
        .optional = true,
        .added_to = true}}};
}

}  // namespace ml
