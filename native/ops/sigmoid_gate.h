#pragma once
// The gate of the published 'gated' variant: one number a row.
//   y, out, dy, dout [R, V], g, dg [R, 1], all float32
//   SigmoidGate           out[r, :] = y[r, :] * sigmoid(g[r])
//   SigmoidGateBackward   dy[r, :] = dout[r, :] * sigmoid(g[r])
//                         dg[r] = sigmoid'(g[r]) * <dout[r, :], y[r, :]>
// out may be y, and dy may be dout.

#include "core/check.h"

namespace ml {

struct SigmoidGate {
  View out, y, g;
};

struct SigmoidGateBackward {
  View dy, dg, dout, y, g;
};

inline void check(const SigmoidGate& a) {
  expect_rank("sigmoidGate", "y", a.y, 2, "[rows, width]");
  expect_dtype("sigmoidGate", "y", a.y, DType::f32);
  expect_float32("sigmoidGate", "g", a.g, {a.y.dim(0), 1});
  expect_same("sigmoidGate", "out", a.out, a.y);
}

inline void check(const SigmoidGateBackward& a) {
  expect_rank("sigmoidGateBackward", "y", a.y, 2, "[rows, width]");
  expect_dtype("sigmoidGateBackward", "y", a.y, DType::f32);
  expect_float32("sigmoidGateBackward", "g", a.g, {a.y.dim(0), 1});
  expect_same("sigmoidGateBackward", "dOut", a.dout, a.y);
}

}  // namespace ml
