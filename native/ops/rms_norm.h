#pragma once
// RMS norm over the last axis (Zhang and Sennrich 2019), with rs = 1 / sqrt(mean(x^2) + eps):
//   RmsNorm           y = x * rs * gain
//   RmsNormBackward   dx = rs * (gain * dy - x * rs^2 * mean(x * gain * dy))
//                     dgain += sum over rows of dy * x * rs
//     x, dy   [..., n]  float32  in
//     gain    [n]       float32  in, optional: ones
//     y, dx   [..., n]  float32  out
//     dgain   [n]       float32  added to, optional
// y may be x. The backward pass reads its inputs twice: dx is memory of its own.

#include "ops/operands.h"

namespace ml {

struct RmsNorm {
  View y, x, gain;
  float eps = 1e-6f;
};

struct RmsNormBackward {
  View dx, dgain, dy, x, gain;
  float eps = 1e-6f;
};

inline void check_norm(const char* op, const View& x, const View& gain) {
  expect_dtype(op, "x", x, DType::f32);
  expect_last_axis(op, "x", x);
  if (gain) expect_float32(op, "gain", gain, {x.dim(-1)});
}

template <class Input>
constexpr void inputs(const RmsNorm& a, Input&& input) {
  input("x", a.x, kInPlace);
  input("gain", a.gain);
}

inline Outputs<RmsNorm, 1> outputs(const RmsNorm& a) {
  check_norm("rmsNorm", a.x, a.gain);
  return {"rmsNorm", {{&RmsNorm::y, "out", a.x.shape}}};
}

template <class Input>
constexpr void inputs(const RmsNormBackward& a, Input&& input) {
  input("dy", a.dy);
  input("x", a.x);
  input("gain", a.gain);
}

inline Outputs<RmsNormBackward, 2> outputs(const RmsNormBackward& a) {
  const char* op = "rmsNormBackward";
  check_norm(op, a.x, a.gain);
  expect_same(op, "dy", a.dy, a.x);
  return {op,
          {{&RmsNormBackward::dx, "out.dx", a.x.shape},
           {.view = &RmsNormBackward::dgain,
            .name = "into.gain",
            .shape = {a.x.dim(-1)},
            .optional = true,
            .added_to = true}}};
}

}  // namespace ml
