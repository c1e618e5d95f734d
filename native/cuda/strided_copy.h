#pragma once
// Copies of boxes (core/strided.h).

#include "core/strided.h"
#include "cuda/namespace.h"

namespace ml::ML_CUDA_NAMESPACE {

class CudaStream;

// Elements of `width` bytes: 1, 2 or 4.
void strided_copy(CudaStream& stream, void* to, const void* from, int width, const BoxLoops& box);

}  // namespace ml::ML_CUDA_NAMESPACE
