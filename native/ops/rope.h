#pragma once
// Rotary position embedding (Su et al. 2021), with the pairs of Hugging Face's Llama: an element of
// the first half of a head with the same one of the second. For a head x and i < d/2:
//   out[i]       = x[i] * cos(a_i) - x[i + d/2] * sin(a_i)
//   out[i + d/2] = x[i + d/2] * cos(a_i) + x[i] * sin(a_i)       a_i = p * theta^(-2i / d)
// The position p of token t is offset + t, or positions[…, t]. `inverse` turns by -a_i: that is the
// gradient.
//   x          [B, T, H, d]   float32  in, d even
//   positions  [T] or [B, T]  int32    in, optional
//   out        as x           float32  out
// out may be x. An angle is a fixed-point fraction of a turn, so that it is as exact at position
// 2^31 as at 1. The bits are the same on every device.

#include <cmath>

#include "core/portable_math.h"
#include "ops/operands.h"

namespace ml {

struct Rope {
  View out, x, positions;
  double theta = 10000;
  int64_t offset = 0;
  bool inverse = false;
};

template <class Input>
constexpr void inputs(const Rope& a, Input&& input) {
  input(a.inverse ? "dy" : "x", a.x, kInPlace);
  input("positions", a.positions);
}

inline Outputs<Rope, 1> outputs(const Rope& a) {
  const char* op = a.inverse ? "ropeBackward" : "rope";
  const char* x = a.inverse ? "dy" : "x";
  expect_rank(op, x, a.x, 4, "[batch, time, heads, headDim]");
  expect_dtype(op, x, a.x, DType::f32);
  expect(a.x.dim(3) % 2 == 0, Code::shape, op, x, "have an even last axis", to_string(a.x.shape),
         "Elements are rotated in pairs.");
  if (a.positions) {
    expect_dtype(op, "positions", a.positions, DType::i32);
    const Shape time{a.x.dim(1)}, batch{a.x.dim(0), a.x.dim(1)};
    expect(a.positions.shape == time || a.positions.shape == batch, Code::shape, op, "positions",
           "have shape " + to_string(time) + " or " + to_string(batch),
           to_string(a.positions.shape));
  }
  return {op, {{&Rope::out, "out", a.x.shape}}};
}

// Rows of positions: token r of [B, T] has row r % position_rows.
inline int64_t position_rows(const Rope& a) {
  return a.positions ? a.positions.size() : a.x.dim(1);
}

// steps [d/2]: by how much the angle of each pair grows with the position, in 2^-64 turns
inline void rope_steps(const Rope& a, uint64_t* steps) {
  constexpr double kTwoPi = 6.283185307179586;
  const int64_t d = a.x.dim(3);
  for (int64_t i = 0; i < d / 2; ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(d);
    steps[i] = static_cast<uint64_t>(std::ldexp(std::pow(a.theta, exponent) / kTwoPi, 64));
  }
}

// Sine and cosine of an angle; whole turns overflow, as they should.
ML_HOST_DEVICE inline void rope_angle(int64_t position, uint64_t step, bool inverse, float& sine,
                                      float& cosine) {
  const uint64_t turns = static_cast<uint64_t>(position) * step;
  sine_cosine(static_cast<uint32_t>((turns + 0x80000000u) >> 32), sine, cosine);
  if (inverse) sine = -sine;
}

}  // namespace ml
