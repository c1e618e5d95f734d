#pragma once
// Parameter-efficient expert retrieval (He 2024): each slot is an expert of one hidden unit.
//   u[t, l]  = <x[t, :], down[indices[t, l], :]>;   out[t, :] = sum_l weights[t, l] * f(u[t, l]) *
//   up[indices[t, l], :]
// backward, with c[t, l] = <dout[t, :], up[indices[t, l], :]>:
//   dweights = f(u) c;   du = weights f'(u) c;   dx[t, :] += sum_l du[t, l] * down[indices[t, l],
//   :] ddown and dup are sparse: reads (indices, du, x) and (indices, coefficient = weights f(u),
//   dout) of sparse_grad.h x, dx [T, C]   out, dout [T, Co]   down [N, C]   up [N, Co]   indices
//   [T, L] int32   weights, u, du, dweights, coefficient [T, L]     float32
// Index -1 is a padding entry: it gives nothing; any other outside [0, N) is ERR_INDEX_RANGE, found
// before anything is written.

#include "core/check.h"
#include "ops/activation.h"

namespace ml {

struct Peer {
  View out, u, x, down, up, indices, weights;
  Activation activation = Activation::gelu;
};

struct PeerBackward {
  View dx, dweights, du, coefficient, dout, u, x, down, up, indices, weights;
  Activation activation = Activation::gelu;
};

inline void check_peer(const char* op, const View& x, const View& down, const View& up,
                       const View& indices, const View& weights) {
  expect_rank(op, "x", x, 2, "[tokens, width]");
  expect_rank(op, "down", down, 2, "[slots, width]");
  expect_rank(op, "up", up, 2, "[slots, width]");
  expect_rank(op, "indices", indices, 2, "[tokens, bag size]");
  expect_dtype(op, "x", x, DType::f32);
  expect_float32(op, "down", down, {down.dim(0), x.dim(1)});
  expect_float32(op, "up", up, {down.dim(0), up.dim(1)});
  expect_dtype(op, "indices", indices, DType::i32);
  expect_shape(op, "indices", indices, {x.dim(0), indices.dim(1)});
  expect_float32(op, "weights", weights, indices.shape);
}

inline void check(const Peer& a) { check_peer("peer", a.x, a.down, a.up, a.indices, a.weights); }

inline void check(const PeerBackward& a) {
  check_peer("peerBackward", a.x, a.down, a.up, a.indices, a.weights);
  expect_float32("peerBackward", "dOut", a.dout, {a.x.dim(0), a.up.dim(1)});
  expect_float32("peerBackward", "u", a.u, a.indices.shape);
}

}  // namespace ml
