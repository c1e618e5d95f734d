#pragma once
// Parameter-efficient expert retrieval (He 2024): each slot is an expert with one hidden unit.
//   u[t, l]           = <x[t, :], down[indices[t, l], :]>
//   out[t, :]         = sum over l of weights[t, l] * f(u[t, l]) * up[indices[t, l], :]
// Backward, with c[t, l] = <dout[t, :], up[indices[t, l], :]>:
//   dweights[t, l]    = f(u[t, l]) * c[t, l]
//   du[t, l]          = weights[t, l] * f'(u[t, l]) * c[t, l]
//   coefficient[t, l] = weights[t, l] * f(u[t, l])
//   dx[t, :]         += sum over l of du[t, l] * down[indices[t, l], :]
// The tables' gradients are those of the bag reads (indices, du, x) of down, and (indices,
// coefficient, dout) of up: ops/sparse_grad.h.
//
//   x         [T, C]   float32  in         indices                     [T, L]  int32    in
//   down      [N, C]   a float dtype  in   weights                     [T, L]  float32  in
//   up        [N, Co]  as down  in         u                           [T, L]  float32  out
//   out       [T, Co]  float32  out        backward: u                 [T, L]  float32  in
//   dout      [T, Co]  float32  in         dweights, du, coefficient   [T, L]  float32  out
//   dx        [T, C]   float32  added to
// N, C, Co and L are below 2^31.
// Index -1 is a padding index: it contributes nothing. Any other index outside [0, N) is
// ERR_INDEX_RANGE, found before anything is written.

#include "core/activation.h"
#include "ops/embedding_bag.h"

namespace ml {

struct Peer {
  View out, u, x, down, up, indices, weights;
  Activation activation = Activation::gelu;
  bool indices_known = false;  // in range: they need no check
};

struct PeerBackward {
  View dx, dweights, du, coefficient, dout, u, x, down, up, indices, weights;
  Activation activation = Activation::gelu;
  bool indices_known = false;
};

// Checks the inputs of both directions; returns the shape of out.
template <class Args>
Shape check_peer(const char* op, const Args& a) {
  expect_rank(op, "x", a.x, 2, "[tokens, width]");
  expect_rank(op, "down", a.down, 2, "[slots, width]");
  expect_rank(op, "up", a.up, 2, "[slots, width]");
  expect_rank(op, "indices", a.indices, 2, "[tokens, bag size]");
  expect_dtype(op, "x", a.x, DType::f32);
  expect_slots(op, a.down.dim(0));
  expect_row_width(op, "down", a.down);
  expect_row_width(op, "up", a.up);
  if (a.indices.dim(1) >= kIndexLimit)
    fail(Code::shape, op, "indices", "have fewer than 2^31 entries a token",
         to_string(a.indices.shape));
  expect_float(op, "down", a.down);
  expect_dtype(op, "up", a.up, a.down.dtype);
  expect_shape(op, "down", a.down, {a.down.dim(0), a.x.dim(1)});
  expect_shape(op, "up", a.up, {a.down.dim(0), a.up.dim(1)});
  expect_int32(op, "indices", a.indices, {a.x.dim(0), a.indices.dim(1)});
  expect_float32(op, "weights", a.weights, a.indices.shape);
  return {a.x.dim(0), a.up.dim(1)};
}

template <class Input>
constexpr void inputs(const Peer& a, Input&& input) {
  input("x", a.x);
  input("down", a.down);
  input("up", a.up);
  input("indices", a.indices);
  input("weights", a.weights);
}

inline Outputs<Peer, 2> outputs(const Peer& a) {
  const Shape out = check_peer("peer", a);
  return {"peer", {{&Peer::out, "out.output", out}, {&Peer::u, "out.u", a.indices.shape}}};
}

template <class Input>
constexpr void inputs(const PeerBackward& a, Input&& input) {
  input("dOut", a.dout);
  input("u", a.u);
  input("x", a.x);
  input("down", a.down);
  input("up", a.up);
  input("indices", a.indices);
  input("weights", a.weights);
}

inline Outputs<PeerBackward, 4> outputs(const PeerBackward& a) {
  const char* op = "peerBackward";
  expect_float32(op, "dOut", a.dout, check_peer(op, a));
  expect_float32(op, "u", a.u, a.indices.shape);
  return {op,
          {{.view = &PeerBackward::dx, .name = "out.dx", .shape = a.x.shape, .added_to = true},
           {&PeerBackward::dweights, "out.dWeights", a.indices.shape},
           {&PeerBackward::du, "du", a.indices.shape},
           {&PeerBackward::coefficient, "coefficient", a.indices.shape}}};
}

}  // namespace ml
