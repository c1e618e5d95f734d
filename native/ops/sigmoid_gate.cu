// Sigmoid gate (ops/sigmoid_gate.h): a row group scales one row by the sigmoid of its gate.

#include "ops/sigmoid_gate.h"

#include "cuda/activation.cuh"
#include "cuda/rows.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// One row group computes one row of out.
template <class Group>
__global__ void __launch_bounds__(Group::kBlock, Group::kMinBlocks)
    sigmoid_gate_kernel(Guard guard, float* out, const float* y, const float* g, int64_t rows,
                        int64_t n) {
  if (guard.aborted()) return;
  const Group group(rows, n);
  const int64_t at = group.row * n;
  const float s = group.exists ? sigmoid(g[group.row]) : 0;
  typename Group::Registers v;
  group.for_chunks([&](int64_t begin) {
    group.load(v, y + at, begin);
    group.store(out + at, begin, [&](int i, int64_t) { return v[i] * s; });
  });
}

// One row group computes one row of dy, and its dg.
template <class Group>
__global__ void __launch_bounds__(Group::kBlock, Group::kMinBlocks)
    sigmoid_gate_backward_kernel(Guard guard, float* dy, float* dg, const float* dout,
                                 const float* y, const float* g, int64_t rows, int64_t n) {
  if (guard.aborted()) return;
  const Group group(rows, n);
  const int64_t at = group.row * n;
  const float s = group.exists ? sigmoid(g[group.row]) : 0;
  typename Group::Registers d, v;
  float product = 0;
  group.for_chunks([&](int64_t begin) {
    group.load(d, dout + at, begin);
    group.load(v, y + at, begin);
    group.for_loaded(begin, [&](int i) { product += d[i] * v[i]; });
    group.store(dy + at, begin, [&](int i, int64_t) { return d[i] * s; });
  });
  product = group.sum(product);
  if (group.is_leader()) dg[group.row] = product * s * (1.0f - s);
}

}  // namespace

void sigmoid_gate(CudaStream& stream, const SigmoidGate& a) {
  const int64_t rows = a.y.dim(0), n = a.y.dim(1);
  launch_rows<kRowRegisters>(
      rows, n, stream, []<class Group>(Group) { return sigmoid_gate_kernel<typename Group::type>; },
      a.out.as<float>(), a.y.as<float>(), a.g.as<float>(), rows, n);
}

void sigmoid_gate_backward(CudaStream& stream, const SigmoidGateBackward& a) {
  const int64_t rows = a.y.dim(0), n = a.y.dim(1);
  launch_rows<kRowRegisters / 2>(
      rows, n, stream,
      []<class Group>(Group) { return sigmoid_gate_backward_kernel<typename Group::type>; },
      a.dy.as<float>(), a.dg.as<float>(), a.dout.as<float>(), a.y.as<float>(), a.g.as<float>(),
      rows, n);
}

}  // namespace ml::ML_CUDA_NAMESPACE
