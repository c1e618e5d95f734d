#pragma once
// Clipping by the norm of all gradients: a SumSquares for each gradient, then a ClipScale for each.
//   SumSquares   out[0] += sum of x[i]^2
//     out   [1]     float32  in, out
//     x     [any]   float32  in
//     count [1]     int32    in, optional: only the first count[0] rows of x [C, V] are summed
//   ClipScale    norm[0] = sqrt(sum[0]);   x[i] *= clip_factor(norm[0], max_norm)
//     x     [any]   float32  in, out, optional
//     norm  [1]     float32  out, optional
//     sum   [1]     float32  in
// Squares are summed in float64, in chunks of kClipChunk elements that are added in order, and the
// sum is stored as float32: the same bits for any number of threads.

#include "ops/operands.h"

namespace ml {

inline constexpr int64_t kClipChunk = 1 << 14;

struct SumSquares {
  View out, x, count;
};

struct ClipScale {
  View x, norm, sum;
  float max_norm = 0;
};

// min(1, max_norm / (norm + 1e-6)); a NaN norm makes every gradient NaN.
ML_HOST_DEVICE constexpr float clip_factor(float norm, float max_norm) {
  const float factor = max_norm / (norm + 1e-6f);
  return norm != norm ? norm : (factor < 1.0f ? factor : 1.0f);
}

template <class Input>
constexpr void inputs(const SumSquares& a, Input&& input) {
  input("grad", a.x);
  input("count", a.count);
}

template <class Output>
constexpr void outputs(const SumSquares& a, Output&& output) {
  output("sum", a.out, Write::updated);
}

// The optimizer makes the sum and the norm itself, and gradients have been checked.
inline void check(const SumSquares&) {}

template <class Input>
constexpr void inputs(const ClipScale& a, Input&& input) {
  input("sum", a.sum);
}

template <class Output>
constexpr void outputs(const ClipScale& a, Output&& output) {
  output("grad", a.x, Write::updated);
  output("norm", a.norm);
}

inline void check(const ClipScale&) {}

}  // namespace ml
