#pragma once
// Operands of the tensor cores in TF32: float32 numbers of which they take the sign, the exponent
// and 10 bits of mantissa.

#include <bit>
#include <cstdint>

#include "cuda/namespace.h"

namespace ml::ML_CUDA_NAMESPACE {

// An element of a matrix that is multiplied in TF32. It is stored as float32, and rounded on the
// way from shared memory to the tensor cores.
struct TensorFloat32 {
  float value;
};

// The bits of a float32 rounded to nearest, ties away from zero.
__device__ inline uint32_t round_to_tf32(uint32_t bits) {
#if !defined(ML_SIMT) && __CUDA_ARCH__ >= 800
  uint32_t rounded;
  asm volatile("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(std::bit_cast<float>(bits)));
  return rounded;
#else
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return nan ? 0x7fffffffu : (bits + 0x1000u) & 0xffffe000u;
#endif
}

// The number that is multiplied.
__device__ inline float widen(TensorFloat32 x) {
  return std::bit_cast<float>(round_to_tf32(std::bit_cast<uint32_t>(x.value)));
}

}  // namespace ml::ML_CUDA_NAMESPACE
