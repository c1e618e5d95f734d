#pragma once
// Tensor cores: mma and ldmatrix, each with a twin for the emulator, and mma in plain instructions
// where an architecture lacks it. Fragments as in the PTX manual, with lane = 4 * g + t, g in [0,
// 8), t in [0, 4); a register holds two neighbouring 16-bit elements.
//   a [16, 16]  a[0] row g,     columns 2t, 2t + 1     a[2] row g,     columns 2t + 8, 2t + 9
//               a[1] row g + 8, columns 2t, 2t + 1     a[3] row g + 8, columns 2t + 8, 2t + 9
//   b [16, 8]   b[0] rows 2t, 2t + 1, column g         b[1] rows 2t + 8, 2t + 9, column g
//   d [16, 8]   d[0], d[1] row g, columns 2t, 2t + 1   d[2], d[3] row g + 8, columns 2t, 2t + 1
// In TF32 a register holds one element, and the depth is 8: columns t and t + 4 of a, rows t and t
// + 4 of b stand where those pairs stand.

#include <cstdint>

#include "core/half.h"
#include "cuda/namespace.h"
#include "cuda/ptx_tf32.cuh"

namespace ml::ML_CUDA_NAMESPACE {

// One warp: d += a * b, sums in float32; the last argument names the dtype of a and b.
#ifdef ML_SIMT

__device__ inline void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                   BFloat16, CallSite site = CallSite::here()) {
  ::simt::mma(::simt::Operand::bfloat16, d, a, b, site);
}
__device__ inline void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                   Half, CallSite site = CallSite::here()) {
  ::simt::mma(::simt::Operand::half, d, a, b, site);
}
__device__ inline void mma_16x8x8(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                  TensorFloat32, CallSite site = CallSite::here()) {
  ::simt::mma(::simt::Operand::tf32, d, a, b, site);
}

#else

namespace detail {
// The product by shuffles, for architectures without the instruction; dot(sum, x, y) adds what
// two registers hold.
template <class Dot>
__device__ inline void mma_by_shuffles(float (&d)[4], const uint32_t (&a)[4],
                                       const uint32_t (&b)[2], Dot dot) {
  const int lane =
      static_cast<int>((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32);
  const int g = lane / 4;
  const int t = lane % 4;
#pragma unroll
  for (int half = 0; half < 2; half++) {  // of the columns of a
#pragma unroll 1  // unrolled, registers spill
    for (int s = 0; s < 4; s++) {
      const uint32_t upper = __shfl_sync(0xffffffffu, a[2 * half], 4 * g + s);
      const uint32_t lower = __shfl_sync(0xffffffffu, a[2 * half + 1], 4 * g + s);
      const uint32_t left = __shfl_sync(0xffffffffu, b[half], 4 * (2 * t) + s);
      const uint32_t right = __shfl_sync(0xffffffffu, b[half], 4 * (2 * t + 1) + s);
      d[0] = dot(d[0], upper, left);
      d[1] = dot(d[1], upper, right);
      d[2] = dot(d[2], lower, left);
      d[3] = dot(d[3], lower, right);
    }
  }
}
}  // namespace detail

__device__ inline void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                   BFloat16, CallSite = CallSite::here()) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  detail::mma_by_shuffles(d, a, b, [](float sum, uint32_t x, uint32_t y) {
    sum = fmaf(__uint_as_float(x << 16), __uint_as_float(y << 16), sum);
    return fmaf(__uint_as_float(x & 0xffff0000u), __uint_as_float(y & 0xffff0000u), sum);
  });
#endif
}

__device__ inline void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                   Half, CallSite = CallSite::here()) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, "
      "%9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#pragma unroll
  for (int half = 0; half < 2; half++)
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, "
        "%1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
#endif
}

__device__ inline void mma_16x8x8(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                  TensorFloat32, CallSite = CallSite::here()) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  detail::mma_by_shuffles(d, a, b, [](float sum, uint32_t x, uint32_t y) {
    return fmaf(__uint_as_float(x), __uint_as_float(y), sum);
  });
#endif
}

#endif

// Four 8x8 matrices of 16-bit elements from shared memory. Lane 8 * m + r gives the address of
// row r of matrix m (16 bytes, aligned); lane 4 * g + t gets of each matrix, or of its transpose,
// row g, columns 2t and 2t + 1.
__device__ inline void ldmatrix_x4(uint32_t (&r)[4], const void* row,
                                   [[maybe_unused]] CallSite site = CallSite::here()) {
#ifdef ML_SIMT
  ::simt::ldmatrix(r, row, false, site);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
#endif
}
__device__ inline void ldmatrix_x4_transposed(uint32_t (&r)[4], const void* row,
                                              [[maybe_unused]] CallSite site = CallSite::here()) {
#ifdef ML_SIMT
  ::simt::ldmatrix(r, row, true, site);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
#endif
}

}  // namespace ml::ML_CUDA_NAMESPACE
