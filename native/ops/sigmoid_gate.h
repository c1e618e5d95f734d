#pragma once
// The gate of the published 'gated' variant: one number g a row.
//   SigmoidGate           out[r, :] = y[r, :] * sigmoid(g[r])
//   SigmoidGateBackward   dy[r, :] = dout[r, :] * sigmoid(g[r])
//                         dg[r] = sigmoid'(g[r]) * <dout[r, :], y[r, :]>
//     y, dout   [R, V]  float32  in
//     g         [R, 1]  float32  in
//     out, dy   [R, V]  float32  out
//     dg        [R, 1]  float32  out
// out may be y, and dy may be dout or y.

#include "ops/operands.h"

namespace ml {

struct SigmoidGate {
  View out, y, g;
};

struct SigmoidGateBackward {
  View dy, dg, dout, y, g;
};

inline void check_gate(const char* op, const View& y, const View& g) {
  expect_rank(op, "y", y, 2, "[rows, width]");
  expect_dtype(op, "y", y, DType::f32);
  expect_float32(op, "g", g, {y.dim(0), 1});
}

template <class Input>
constexpr void inputs(const SigmoidGate& a, Input&& input) {
  input("y", a.y, kInPlace);
  input("g", a.g);
}

inline Outputs<SigmoidGate, 1> outputs(const SigmoidGate& a) {
  check_gate("sigmoidGate", a.y, a.g);
  return {"sigmoidGate", {{&SigmoidGate::out, "out", a.y.shape}}};
}

template <class Input>
constexpr void inputs(const SigmoidGateBackward& a, Input&& input) {
  input("dOut", a.dout, kInPlace);
  input("y", a.y, kInPlace);
  input("g", a.g);
}

inline Outputs<SigmoidGateBackward, 2> outputs(const SigmoidGateBackward& a) {
  const char* op = "sigmoidGateBackward";
  check_gate(op, a.y, a.g);
  expect_same(op, "dOut", a.dout, a.y);
  return {op,
          {{&SigmoidGateBackward::dy, "out.dy", a.y.shape},
           {&SigmoidGateBackward::dg, "out.dg", a.g.shape}}};
}

}  // namespace ml
