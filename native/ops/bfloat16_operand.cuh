#pragma once
// The operands of products that are computed in bfloat16 (core/compute.h).

#include <initializer_list>

#include "core/view.h"
#include "cuda/namespace.h"

namespace ml::ML_CUDA_NAMESPACE {

class CudaStream;

// Each view of float32 or float16 becomes a view of a copy that is rounded to bfloat16, in scratch
// memory; one launch makes all copies. nullptr: no operand.
void round_operands(CudaStream& stream, std::initializer_list<View*> views);

inline View bfloat16_operand(CudaStream& stream, const View& v) {
  View rounded = v;
  round_operands(stream, {&rounded});
  return rounded;
}

}  // namespace ml::ML_CUDA_NAMESPACE
