#pragma once
// Depthwise convolution over time that reads no later token, with s_j = (width - 1 - j) * dilation:
//   CausalConv1d           y[b, t, c] = bias[c] + sum over j of weight[c, j] * x[b, t - s_j, c]
//   CausalConv1dBackward   dx[b, t, c] = sum over j of weight[c, j] * dy[b, t + s_j, c]
//                          dweight[c, j] += sum over b, t of dy[b, t, c] * x[b, t - s_j, c]
//                          dbias[c] += sum over b, t of dy[b, t, c]
//     x, dy    [B, T, C]   float32  in; 0 outside of time
//     weight   [C, width]  float32  in
//     bias     [C]         float32  in, optional: zeros
//     y, dx    [B, T, C]   float32  out, dx optional
//     dweight  as weight, dbias as bias   float32  added to, optional
// Sums over j ascend; those over tokens are of fixed chunks, added in order in float64.

#include "ops/operands.h"

namespace ml {

struct CausalConv1d {
  View y, x, weight, bias;
  int64_t dilation = 1;
};

struct CausalConv1dBackward {
  View dx, dweight, dbias, dy, x, weight;
  int64_t dilation = 1;
};

inline void check_causal_conv(const char* op, const View& x, const View& weight, int64_t dilation) {
  expect_rank(op, "x", x, 3, "[batch, time, channels]");
  expect_dtype(op, "x", x, DType::f32);
  expect_rank(op, "weight", weight, 2, "[channels, width]");
  expect(weight.dim(1) >= 1, Code::shape, op, "weight", "have a width of 1 or more",
         to_string(weight.shape));
  expect_float32(op, "weight", weight, {x.dim(2), weight.dim(1)});
  int64_t reach = 0;  // so that t + s_j overflows nowhere
  expect(!__builtin_mul_overflow(weight.dim(1), dilation, &reach) && reach <= kMaxElements,
         Code::value, op, "dilation", "reach back at most 2^50 tokens", std::to_string(dilation));
}

template <class Input>
constexpr void inputs(const CausalConv1d& a, Input&& input) {
  input("x", a.x);
  input("weight", a.weight);
  input("bias", a.bias);
}

inline Outputs<CausalConv1d, 1> outputs(const CausalConv1d& a) {
  const char* op = "causalConv1d";
  check_causal_conv(op, a.x, a.weight, a.dilation);
  if (a.bias) expect_float32(op, "bias", a.bias, {a.x.dim(2)});
  return {op, {{&CausalConv1d::y, "out", a.x.shape}}};
}

template <class Input>
constexpr void inputs(const CausalConv1dBackward& a, Input&& input) {
  input("dy", a.dy);
  input("x", a.x);
  input("weight", a.weight);
}

inline Outputs<CausalConv1dBackward, 3> outputs(const CausalConv1dBackward& a) {
  const char* op = "causalConv1dBackward";
  check_causal_conv(op, a.x, a.weight, a.dilation);
  expect_same(op, "dy", a.dy, a.x);
  return {
      op,
      {{.view = &CausalConv1dBackward::dx, .name = "out.dx", .shape = a.x.shape, .optional = true},
       {.view = &CausalConv1dBackward::dweight,
        .name = "into.weight",
        .shape = a.weight.shape,
        .optional = true,
        .added_to = true},
       {.view = &CausalConv1dBackward::dbias,
        .name = "into.bias",
        .shape = {a.x.dim(2)},
        .optional = true,
        .added_to = true}}};
}

}  // namespace ml
