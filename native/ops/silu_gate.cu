#include "cuda/rows.cuh"
#include "cuda/vec.cuh"
#include "ops/silu_gate.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// One thread kVec elements.
template <int kVec>
__global__ void __launch_bounds__(kThreads)
    silu_gate_kernel(Guard guard, float* z, const float* y, const float* a, int64_t count) {
  if (guard.closed()) return;
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kVec;
  if (at < count) {
    const Pack<float, kVec> v = load<kVec>(y + at), gate = load<kVec>(a + at);
    Pack<float, kVec> out;
#pragma unroll
    for (int e = 0; e < kVec; ++e) out.v[e] = v.v[e] * (gate.v[e] * sigmoid(gate.v[e]));
    store<kVec>(z + at, out);
  }
}

template <int kVec>
__global__ void __launch_bounds__(kThreads)
    silu_gate_backward_kernel(Guard guard, float* dy, float* da, const float* dz, const float* y,
                              const float* a, int64_t count) {
  if (guard.closed()) return;
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kVec;
  if (at < count) {
    const Pack<float, kVec> d = load<kVec>(dz + at), v = load<kVec>(y + at),
                            gate = load<kVec>(a + at);
    Pack<float, kVec> to_y, to_a;
#pragma unroll
    for (int e = 0; e < kVec; ++e) {
      const float g = gate.v[e], s = sigmoid(g);
      to_y.v[e] = d.v[e] * (g * s);
      to_a.v[e] = d.v[e] * v.v[e] * s * (1.0f + g * (1.0f - s));
    }
    store<kVec>(dy + at, to_y);
    store<kVec>(da + at, to_a);
  }
}

template <class Team>
__global__ void __launch_bounds__(Team::kBlock, Team::kBlocks)
    sigmoid_gate_kernel(Guard guard, float* out, const float* y, const float* g, int64_t rows,
                        int64_t n) {
  if (guard.closed()) return;
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
  if (guard.closed()) return;
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

// Whether packs of four divide all of it.
template <class... Pointers>
bool packed(int64_t count, const Pointers*... pointers) {
  return ((widest(pointers, count) == 4) && ...);
}

}  // namespace

void silu_gate(CudaStream& stream, const SiluGate& a) {
  float* z = a.z.as<float>();
  const float *y = a.y.as<float>(), *gate = a.a.as<float>();
  const int64_t count = a.y.size();
  const bool four = packed(count, z, y, gate);
  launch(four ? silu_gate_kernel<4> : silu_gate_kernel<1>,
         dim3(blocks_for(count, kThreads * (four ? 4 : 1))), dim3(kThreads), 0, stream, z, y, gate,
         count);
}

void silu_gate_backward(CudaStream& stream, const SiluGateBackward& a) {
  float *dy = a.dy.as<float>(), *da = a.da.as<float>();
  const float *dz = a.dz.as<float>(), *y = a.y.as<float>(), *gate = a.a.as<float>();
  const int64_t count = a.y.size();
  const bool four = packed(count, dy, da, dz, y, gate);
  launch(four ? silu_gate_backward_kernel<4> : silu_gate_backward_kernel<1>,
         dim3(blocks_for(count, kThreads * (four ? 4 : 1))), dim3(kThreads), 0, stream, dy, da, dz,
         y, gate, count);
}

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
