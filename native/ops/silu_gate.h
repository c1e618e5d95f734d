#pragma once
// The gate of Memory+. silu(a) = a * sigmoid(a).                         all [R, V] float32
//   SiluGate           z = y * silu(a)
//   SiluGateBackward   dy = dz * silu(a);   da = dz * y * sigmoid(a) * (1 + a * (1 - sigmoid(a)))
// z may be y, and dy may be dz.

#include "core/check.h"

namespace ml {

struct SiluGate {
  View z, y, a;
};

struct SiluGateBackward {
  View dy, da, dz, y, a;
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

}  // namespace ml
