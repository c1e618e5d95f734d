#include "ops/sigmoid_gate.h"

#include "cuda/activation.cuh"
#include "cuda/rows.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

template <class Team>
__global__ void __launch_bounds__(Team::kBlock, Team::kBlocks)
    sigmoid_gate_kernel(Guard guard, float* out, const float* y, const float* g, int64_t rows,
                        int64_t n) {
  if (guard.aborted()) return;
  const Team team(rows, n);
  const int64_t at = team.row * n;
  const float s = team.exists ? sigmoid(g[team.row]) : 0;
  typename Team::Slots v;
  team.parts([&](int64_t begin) {
    team.load(v, y + at, begin);
    team.store(out + at, begin, [&](int i, int64_t) { return v[i] * s; });
  });
}

template <class Team>
__global__ void __launch_bounds__(Team::kBlock, Team::kBlocks)
    sigmoid_gate_backward_kernel(Guard guard, float* dy, float* dg, const float* dout,
                                 const float* y, const float* g, int64_t rows, int64_t n) {
  if (guard.aborted()) return;
  const Team team(rows, n);
  const int64_t at = team.row * n;
  const float s = team.exists ? sigmoid(g[team.row]) : 0;
  typename Team::Slots d, v;
  float product = 0;
  team.parts([&](int64_t begin) {
    team.load(d, dout + at, begin);
    team.load(v, y + at, begin);
    team.held(begin, [&](int i) { product += d[i] * v[i]; });
    team.store(dy + at, begin, [&](int i, int64_t) { return d[i] * s; });
  });
  product = team.sum(product);
  if (team.leads()) dg[team.row] = product * s * (1.0f - s);
}

}  // namespace

void sigmoid_gate(CudaStream& stream, const SigmoidGate& a) {
  const int64_t rows = a.y.dim(0), n = a.y.dim(1);
  launch_rows<kHeld>(
      rows, n, stream, []<class Team>(Team) { return sigmoid_gate_kernel<typename Team::type>; },
      a.out.as<float>(), a.y.as<float>(), a.g.as<float>(), rows, n);
}

void sigmoid_gate_backward(CudaStream& stream, const SigmoidGateBackward& a) {
  const int64_t rows = a.y.dim(0), n = a.y.dim(1);
  launch_rows<kHeld / 2>(
      rows, n, stream,
      []<class Team>(Team) { return sigmoid_gate_backward_kernel<typename Team::type>; },
      a.dy.as<float>(), a.dg.as<float>(), a.dout.as<float>(), a.y.as<float>(), a.g.as<float>(),
      rows, n);
}

}  // namespace ml::ML_CUDA_NAMESPACE
