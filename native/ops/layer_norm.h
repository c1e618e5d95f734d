#pragma once
// Layer norm over the last axis (Ba et al. 2016), with xn = (x - mean(x)) / sqrt(var(x) + eps),
// var(x) = mean((x - mean(x))^2):
//   LayerNorm           y = xn * weight + bias
//   LayerNormBackward   dx = (g - mean(g) - xn * mean(g * xn)) / sqrt(var(x) + eps), g = weight *
//   dy
//                       dweight += sum over rows of dy * xn
//                       dbias += sum over rows of dy
//     x, dy            [..., n]  float32  in
//     weight           [n]       float32  in, optional: ones
//     bias             [n]       float32  in, optional: zeros
//     y, dx            [..., n]  float32  out, dx optional
//     dweight, dbias   [n]       float32  added to, optional
// y may be x. The backward pass reads its inputs twice: dx is memory of its own.

#include "ops/operands.h"

namespace ml {

struct LayerNorm {
  View y, x, weight, bias;
  float eps = 1e-5f;
};

struct LayerNormBackward {
  View dx, dweight, dbias, dy, x, weight;
  float eps = 1e-5f;
};

inline void check_layer_norm(const char* op, const View& x, const View& weight) {
  expect_dtype(op, "x", x, DType::f32);
  expect_last_axis(op, "x", x);
  if (weight) expect_float32(op, "weight", weight, {x.dim(-1)});
}

template <class Input>
constexpr void inputs(const LayerNorm& a, Input&& input) {
  input("x", a.x, kInPlace);
  input("weight", a.weight);
  input("bias", a.bias);
}

inline Outputs<LayerNorm, 1> outputs(const LayerNorm& a) {
  const char* op = "layerNorm";
  check_layer_norm(op, a.x, a.weight);
  if (a.bias) expect_float32(op, "bias", a.bias, {a.x.dim(-1)});
  return {op, {{&LayerNorm::y, "out", a.x.shape}}};
}

template <class Input>
constexpr void inputs(const LayerNormBackward& a, Input&& input) {
  input("dy", a.dy);
  input("x", a.x);
  input("weight", a.weight);
}

inline Outputs<LayerNormBackward, 3> outputs(const LayerNormBackward& a) {
  const char* op = "layerNormBackward";
  check_layer_norm(op, a.x, a.weight);
  expect_same(op, "dy", a.dy, a.x);
  const Shape n{a.x.dim(-1)};
  return {op,
          {{.view = &LayerNormBackward::dx, .name = "out.dx", .shape = a.x.shape, .optional = true},
           {.view = &LayerNormBackward::dweight,
            .name = "into.weight",
            .shape = n,
            .optional = true,
            .added_to = true},
           {.view = &LayerNormBackward::dbias,
            .name = "into.bias",
            .shape = n,
            .optional = true,
            .added_to = true}}};
}

}  // namespace ml
