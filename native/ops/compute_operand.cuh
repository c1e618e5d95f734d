#pragma once
// The operands of products in the type that they are computed in (core/compute.h).

#include <initializer_list>

#include "core/compute.h"
#include "core/view.h"
#include "cuda/namespace.h"
#include "cuda/ptx_tf32.cuh"

namespace ml::ML_CUDA_NAMESPACE {

class CudaStream;

// Each view becomes what the kernels of `compute` read: itself, or a copy in scratch memory. One
// launch rounds all operands to bfloat16; the kernels of tf32 round float32 themselves. nullptr: no
// operand.
void compute_operands(CudaStream& stream, Compute compute, std::initializer_list<View*> views);

// The view itself, or a copy of it as `dtype` in scratch memory.
View operand_as(CudaStream& stream, const View& v, DType dtype);

// Calls f with a value of the type of an operand, whose dtype is `dtype`.
template <class F>
void dispatch_operand(Compute compute, DType dtype, F f) {
  if (compute == Compute::tf32)
    f(TensorFloat32{});
  else
    dispatch_float(dtype, f);
}

}  // namespace ml::ML_CUDA_NAMESPACE
