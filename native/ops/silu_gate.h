#pragma once
// The gates behind the bag. silu(a) = a * sigmoid(a).
//   SiluGate       z = y * silu(a)                            all [R, V] float32
//     backward     dy = dz * silu(a);   da = dz * y * sigmoid(a) * (1 + a * (1 - sigmoid(a)))
//   SigmoidGate    out[r, :] = y[r, :] * sigmoid(g[r])        y, out [R, V], g [R, 1]     (the
//   published 'gated' variant)
//     backward     dy[r, :] = dout[r, :] * sigmoid(g[r]);   dg[r] = sigmoid'(g[r]) * <dout[r, :],
//     y[r, :]>
// out may be y, and dy may be dz (dout).

#include "core/check.h"

namespace ml {

struct SiluGate {
  View z, y, a;
};

struct SiluGateBackward {
  View dy, da, dz, y, a;
};

struct SigmoidGate {
  View out, y, g;
};

struct SigmoidGateBackward {
  View dy, dg, dout, y, g;
};

inline void check(const SiluGate& a) {
  expect_dtype("siluGate", "y", a.y, DType::f32);
  expect_same("siluGate", "a", a.a, a.y);
  expect_same("siluGate", "out", a.z, a.y);
}

inline void check(const SiluGateBackward& a) {
  expect_dtype("siluGateBackward", "y", a.y, DType::f32);
  expect_same("siluGateBackward", "a", a.a, a.y);
  expect_same("siluGateBackward", "dz", a.dz, a.y);
}

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
