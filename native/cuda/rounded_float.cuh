#pragma once
// A float32 of an operand that is computed in bfloat16 (core/compute.h), rounded as it is loaded:
// few rows of products read an operand once, so that a rounded copy of it would cost more.

#include "cuda/vec.cuh"

namespace ml::ML_CUDA_NAMESPACE {

struct RoundedFloat {
  float v;
};

__device__ inline float widen(RoundedFloat x) { return widen(narrow<BFloat16>(x.v)); }

}  // namespace ml::ML_CUDA_NAMESPACE
