#pragma once
// The gate of Memory+ (Berges et al. 2024), with silu(a) = a * sigmoid(a), element by element.
//   SiluGate           z = y * silu(a)
//   SiluGateBackward   dy = dz * silu(a)
//                      da = dz * y * sigmoid(a) * (1 + a * (1 - sigmoid(a)))
//     y, a, dz    [any]    float32  in
//     z, dy, da   [as y]   float32  out
// z may be y or a, and each of dy and da may be dz, y or a.

#include "ops/operands.h"

namespace ml {

struct SiluGate {
  View z, y, a;
};

struct SiluGateBackward {
  View dy, da, dz, y, a;
};

template <class Input>
constexpr void inputs(const SiluGate& a, Input&& input) {
  input("y", a.y, kInPlace);
  input("a", a.a, kInPlace);
}

inline Outputs<SiluGate, 1> outputs(const SiluGate& a) {
  expect_dtype("siluGate", "y", a.y, DType::f32);
  expect_same("siluGate", "a", a.a, a.y);
  return {"siluGate", {{&SiluGate::z, "out", a.y.shape}}};
}

template <class Input>
constexpr void inputs(const SiluGateBackward& a, Input&& input) {
  input("dz", a.dz, kInPlace);
  input("y", a.y, kInPlace);
  input("a", a.a, kInPlace);
}

inline Outputs<SiluGateBackward, 2> outputs(const SiluGateBackward& a) {
  const char* op = "siluGateBackward";
  expect_dtype(op, "y", a.y, DType::f32);
  expect_same(op, "a", a.a, a.y);
  expect_same(op, "dz", a.dz, a.y);
  return {
      op,
      {{&SiluGateBackward::dy, "out.dy", a.y.shape}, {&SiluGateBackward::da, "out.da", a.y.shape}}};
}

}  // namespace ml
