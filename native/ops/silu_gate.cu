// SiLU gate (ops/silu_gate.h), elementwise.

#include "ops/silu_gate.h"

#include "cuda/activation.cuh"
#include "cuda/rows.cuh"
#include "cuda/vec.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// One thread computes kVec elements of z.
template <int kVec>
__global__ void __launch_bounds__(kThreads)
    silu_gate_kernel(Guard guard, float* z, const float* y, const float* a, int64_t count) {
  if (guard.aborted()) return;
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kVec;
  if (at < count) {
    const Pack<float, kVec> v = load<kVec>(y + at), gate = load<kVec>(a + at);
    Pack<float, kVec> out;
#pragma unroll
    for (int e = 0; e < kVec; ++e) out.v[e] = v.v[e] * (gate.v[e] * sigmoid(gate.v[e]));
    store<kVec>(z + at, out);
  }
}

// One thread computes kVec elements of dy and of da.
template <int kVec>
__global__ void __launch_bounds__(kThreads)
    silu_gate_backward_kernel(Guard guard, float* dy, float* da, const float* dz, const float* y,
                              const float* a, int64_t count) {
  if (guard.aborted()) return;
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

// Whether the tensors can be accessed in packs of four.
template <class... Pointers>
bool vec4_aligned(int64_t count, const Pointers*... pointers) {
  return ((widest(pointers, count) == 4) && ...);
}

}  // namespace

void silu_gate(CudaStream& stream, const SiluGate& a) {
  float* z = a.z.as<float>();
  const float *y = a.y.as<float>(), *gate = a.a.as<float>();
  const int64_t count = a.y.size();
  const bool vec4 = vec4_aligned(count, z, y, gate);
  launch(vec4 ? silu_gate_kernel<4> : silu_gate_kernel<1>,
         dim3(blocks_for(count, kThreads * (vec4 ? 4 : 1))), dim3(kThreads), 0, stream, z, y, gate,
         count);
}

void silu_gate_backward(CudaStream& stream, const SiluGateBackward& a) {
  float *dy = a.dy.as<float>(), *da = a.da.as<float>();
  const float *dz = a.dz.as<float>(), *y = a.y.as<float>(), *gate = a.a.as<float>();
  const int64_t count = a.y.size();
  const bool vec4 = vec4_aligned(count, dy, da, dz, y, gate);
  launch(vec4 ? silu_gate_backward_kernel<4> : silu_gate_backward_kernel<1>,
         dim3(blocks_for(count, kThreads * (vec4 ? 4 : 1))), dim3(kThreads), 0, stream, dy, da, dz,
         y, gate, count);
}

}  // namespace ml::ML_CUDA_NAMESPACE
