#pragma once
// RMS norm over the last axis (Zhang and Sennrich 2019): y = x * rs * gain, rs = 1 / sqrt(mean(x^2)
// + eps).
//   backward  dx = rs * (gain * dy - x * rs^2 * mean(x * gain * dy));   dgain += sum over rows of
//   dy * x * rs x, y, dx, dy [..., n]   gain, dgain [n]  (gain optional: ones; dgain optional)
//   float32

#include "core/check.h"

namespace ml {

struct RmsNorm {
  View y, x, gain;
  float eps = 1e-6f;
};

struct RmsNormBackward {
  View dx, dgain, dy, x, gain;
  float eps = 1e-6f;
};

inline void check(const RmsNorm& a) {
  expect_dtype("rmsNorm", "x", a.x, DType::f32);
  expect(a.x.shape.rank >= 1, Code::shape, "rmsNorm", "x", "have at least one axis", "[]");
  if (a.gain) expect_float32("rmsNorm", "gain", a.gain, {a.x.dim(-1)});
  expect_same("rmsNorm", "out", a.y, a.x);
}

inline void check(const RmsNormBackward& a) {
  expect_dtype("rmsNormBackward", "x", a.x, DType::f32);
  expect(a.x.shape.rank >= 1, Code::shape, "rmsNormBackward", "x", "have at least one axis", "[]");
  expect_same("rmsNormBackward", "dy", a.dy, a.x);
  if (a.gain) expect_float32("rmsNormBackward", "gain", a.gain, {a.x.dim(-1)});
  if (a.dgain) expect_float32("rmsNormBackward", "dGain", a.dgain, {a.x.dim(-1)});
}

}  // namespace ml
