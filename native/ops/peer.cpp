#include "ops/peer.h"

#ifdef ML_ISA
#include "cpu/activation.h"
#include "cpu/gather_dot.h"
#include "cpu/gather_sum.h"
#include "cpu/rows.h"

namespace ml::cpu::ML_ISA {
namespace {

inline BagEntries weighted(BagEntries bag, const float* weights) {
  bag.weights = weights;
  return bag;
}

// out and u of tokens t0 … t1. coefficient [T, L]: workspace for weight * activation(u).
template <class T>
void peer_tokens_of(const Peer& a, float* coefficient, int64_t t0, int64_t t1) {
  const int64_t C = a.x.dim(1), out = a.out.dim(1), L = a.indices.dim(1);
  const Table<T> down{.rows = a.down.as<T>(), .width = C}, up{.rows = a.up.as<T>(), .width = out};
  const int32_t* indices = a.indices.as<int32_t>();
  const float* weights = a.weights.as<float>();
  float* u = a.u.as<float>();
  for (int64_t t = t0; t < t1; ++t) {
    const int64_t begin = t * L, end = begin + L;
    const NextRows next = next_rows(down, indices + end, t1 * L - end, 0);
    const BagEntries bag{
        .indices = indices, .weights = nullptr, .scales = nullptr, .begin = begin, .end = end};
    bag_dots(down, bag, a.x.as<float>() + t * C, u, next_rows(up, indices + begin, L, 0));
    for_vectors(L, [&](int64_t l, int n) {
      store_n(coefficient + begin + l,
              load_n(weights + begin + l, n) * activate(a.activation, load_n(u + begin + l, n)), n);
    });
    bag_sum(up, weighted(bag, coefficient), 0, out, a.out.as<float>() + t * out, false, next);
  }
}

// dx, dweights, du and coefficient of tokens t0 … t1
template <class T>
void peer_backward_tokens_of(const PeerBackward& a, int64_t t0, int64_t t1) {
  const int64_t C = a.x.dim(1), out = a.dout.dim(1), L = a.indices.dim(1);
  const Table<T> down{.rows = a.down.as<T>(), .width = C}, up{.rows = a.up.as<T>(), .width = out};
  const int32_t* indices = a.indices.as<int32_t>();
  const float *weights = a.weights.as<float>(), *u = a.u.as<float>();
  float *dweights = a.dweights.as<float>(), *du = a.du.as<float>(),
        *coefficient = a.coefficient.as<float>();
  for (int64_t t = t0; t < t1; ++t) {
    const int64_t begin = t * L, end = begin + L;
    const NextRows next = next_rows(up, indices + end, t1 * L - end, 0);
    const BagEntries bag{
        .indices = indices, .weights = nullptr, .scales = nullptr, .begin = begin, .end = end};
    // first c = <dout, up row>, which the loop below turns into dweights
    bag_dots(up, bag, a.dout.as<float>() + t * out, dweights,
             next_rows(down, indices + begin, L, 0));
    for_vectors(L, [&](int64_t l, int n) {
      const int64_t i = begin + l;
      const Vec w = load_n(weights + i, n), v = load_n(u + i, n), c = load_n(dweights + i, n),
                f = activate(a.activation, v);
      store_n(coefficient + i, w * f, n);
      store_n(du + i, w * activate_derivative(a.activation, v) * c, n);
      store_n(dweights + i, f * c, n);
    });
    bag_sum(down, weighted(bag, du), 0, C, a.dx.as<float>() + t * C, true, next);
  }
}

void peer_tokens(const Peer& a, float* coefficient, int64_t t0, int64_t t1) {
  dispatch_float(a.down.dtype,
                 [&](auto t) { peer_tokens_of<decltype(t)>(a, coefficient, t0, t1); });
}

void peer_backward_tokens(const PeerBackward& a, int64_t t0, int64_t t1) {
  dispatch_float(a.down.dtype, [&](auto t) { peer_backward_tokens_of<decltype(t)>(a, t0, t1); });
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include "cpu/index_check.h"
#include "cpu/tuning.h"

#define ML_ISA_SOURCE "ops/peer.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {

void peer(KernelContext& ctx, const Peer& a) {
  if (!a.indices_known) validate_indices(ctx, "peer", "indices", a.indices, a.down.dim(0));
  if (a.out.size() == 0 && a.u.size() == 0) return;  // another axis may be huge
  float* coefficient = ctx.scratch<float>(a.indices.size());
  const auto tokens = ML_DISPATCH(peer_tokens);
  ctx.parallel_for(a.x.dim(0), kPeerGrain,
                   [&](int64_t begin, int64_t end, int) { tokens(a, coefficient, begin, end); });
}

void peer_backward(KernelContext& ctx, const PeerBackward& a) {
  if (!a.indices_known) validate_indices(ctx, "peerBackward", "indices", a.indices, a.down.dim(0));
  if (a.u.size() == 0) return;  // another axis may be huge
  const auto tokens = ML_DISPATCH(peer_backward_tokens);
  ctx.parallel_for(a.x.dim(0), kPeerGrain,
                   [&](int64_t begin, int64_t end, int) { tokens(a, begin, end); });
}

}  // namespace ml::cpu
#endif
