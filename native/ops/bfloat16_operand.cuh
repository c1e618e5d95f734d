#pragma once
// The operands of products that are computed in bfloat16 (core/compute.h).

#include "cuda/stream.h"
#include "ops/copy.h"

namespace ml::ML_CUDA_NAMESPACE {

void copy(CudaStream& stream, const Copy& a);  // ops/copy.cu

// The view itself, or a copy of it rounded to bfloat16, in scratch memory.
inline View bfloat16_operand(CudaStream& stream, const View& v) {
  if (v.dtype == DType::bf16) return v;
  View rounded = v;
  rounded.dtype = DType::bf16;
  rounded.data = stream.scratch<BFloat16>(v.size());
  copy(stream, {.out = rounded, .in = v});
  return rounded;
}

}  // namespace ml::ML_CUDA_NAMESPACE
