#pragma once
// The operands of products in the type that they are computed in (core/compute.h).

#include "core/compute.h"
#include "cuda/stream.h"
#include "cuda/tf32.cuh"
#include "ops/copy.h"

namespace ml::ML_CUDA_NAMESPACE {

void copy(CudaStream& stream, const Copy& a);  // ops/copy.cu

// The view itself, or a copy of it as `dtype` in scratch memory.
inline View operand_as(CudaStream& stream, const View& v, DType dtype) {
  if (v.dtype == dtype) return v;
  View copied = v;
  copied.dtype = dtype;
  copied.data = stream.scratch<char>(copied.bytes());
  copy(stream, {.out = copied, .in = v});
  return copied;
}

// The view as the kernels of `compute` read it: those of tf32 round float32 themselves.
inline View compute_operand(CudaStream& stream, const View& v, Compute compute) {
  if (compute == Compute::float32) return v;
  return operand_as(stream, v, compute == Compute::tf32 ? DType::f32 : DType::bf16);
}

// Calls f with a value of the type of such an operand, whose dtype is `dtype`.
template <class F>
void dispatch_operand(Compute compute, DType dtype, F f) {
  if (compute == Compute::tf32)
    f(TensorFloat32{});
  else
    dispatch_float(dtype, f);
}

}  // namespace ml::ML_CUDA_NAMESPACE
