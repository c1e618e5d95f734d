#pragma once
// The instructions that C++ has no words for: tensor cores, ldmatrix, asynchronous copies, cache
// hints, redux, conversions. Each has a twin for the emulator, and one in plain instructions for
// the architectures that lack it.

#include <bit>
#include <cstdint>
#include <type_traits>

#ifndef ML_SIMT
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

#include "core/half.h"
#include "cuda/namespace.h"

namespace ml::ML_CUDA_NAMESPACE {

// ---- One warp multiplies: d += a * b. Fragments as in the PTX manual; lane = 4 * g + t (g in [0,
// 8), t in [0, 4)):
//   16x8x16, two elements a register: a[0] rows g, columns 2t, 2t+1; a[1] row g+8; a[2] columns +
//   8; a[3] row g+8, columns + 8
//                                     b[0] rows 2t, 2t+1, column g;  b[1] rows + 8
//   16x8x8 TF32, one a register:      a[0] row g, column t; a[1] row g+8; a[2] column + 4; a[3] row
//   g+8, column + 4
//                                     b[0] row t, column g; b[1] row + 4
//   both:                             d[0], d[1] row g, columns 2t, 2t+1; d[2], d[3] row g+8

#ifdef ML_SIMT

__device__ inline void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                   BFloat16, CallSite site = CallSite::here()) {
  ::simt::mma(::simt::Operand::bfloat16, d, a, b, site);
}
__device__ inline void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                   Half, CallSite site = CallSite::here()) {
  ::simt::mma(::simt::Operand::half, d, a, b, site);
}
__device__ inline void mma_16x8x8_tf32(float (&d)[4], const uint32_t (&a)[4],
                                       const uint32_t (&b)[2], CallSite site = CallSite::here()) {
  ::simt::mma(::simt::Operand::tf32, d, a, b, site);
}

// float32 with 10 bits of mantissa: to nearest, ties away from zero.
__device__ inline uint32_t to_tf32(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  return (u & 0x7f800000u) == 0x7f800000u ? u : (u + 0x1000u) & ~0x1fffu;
}

#else

namespace detail {
// The product by shuffles, for architectures without the instruction; dot(sum, x, y) adds what two
// registers hold.
template <class Dot>
__device__ inline void mma_by_shuffles(float (&d)[4], const uint32_t (&a)[4],
                                       const uint32_t (&b)[2], Dot dot) {
  const int lane =
      static_cast<int>((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32);
  const int g = lane / 4;
  const int t = lane % 4;
#pragma unroll
  for (int half = 0; half < 2; half++) {  // of the columns of a
#pragma unroll
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

__device__ inline void mma_16x8x8_tf32(float (&d)[4], const uint32_t (&a)[4],
                                       const uint32_t (&b)[2], CallSite = CallSite::here()) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, "
      "%9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  detail::mma_by_shuffles(d, a, b, [](float sum, uint32_t x, uint32_t y) {
    return fmaf(__uint_as_float(x), __uint_as_float(y), sum);
  });
#endif
}

// float32 with 10 bits of mantissa: to nearest, ties away from zero.
__device__ inline uint32_t to_tf32(float x) {
#if __CUDA_ARCH__ >= 800
  uint32_t r;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(x));
  return r;
#else
  const uint32_t u = __float_as_uint(x);
  return (u & 0x7f800000u) == 0x7f800000u ? u : (u + 0x1000u) & ~0x1fffu;
#endif
}

#endif

// ---- Four 8x8 matrices of 16-bit elements from shared memory: lane 8 * m + r gives the address of
// row r of matrix m (16 bytes, aligned); lane 4 * g + t gets of each matrix row g, columns 2t and
// 2t+1 (transposed: of column g, rows 2t and 2t+1).

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
__device__ inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row,
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

// ---- Copies from global to shared memory that run on behind the thread's back. They are there for
// the thread itself after copy_async_wait, for the others after a barrier more. `bytes` of the
// source are read, the rest of the target becomes zero.

namespace detail {
template <int kBytes>
__device__ inline void copy_async(void* shared, const void* global, int bytes,
                                  [[maybe_unused]] CallSite site) {
#ifdef ML_SIMT
  ::simt::copy_async(shared, global, kBytes, bytes, site);
#elif __CUDA_ARCH__ >= 800
  const uint32_t target = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  if constexpr (kBytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(global),
                 "r"(bytes)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(target), "l"(global),
                 "r"(bytes)
                 : "memory");
#else
  using Words = std::conditional_t<kBytes == 16, uint4, uint32_t>;
  if (bytes == kBytes) {
    *static_cast<Words*>(shared) = *static_cast<const Words*>(global);
  } else {
    for (int i = 0; i < kBytes; i++)
      static_cast<char*>(shared)[i] = i < bytes ? static_cast<const char*>(global)[i] : 0;
  }
#endif
}
}  // namespace detail

// `bytes` in [0, 16]; both addresses aligned to 16.
__device__ inline void copy_async16(void* shared, const void* global, int bytes = 16,
                                    CallSite site = CallSite::here()) {
  detail::copy_async<16>(shared, global, bytes, site);
}
// `bytes` in [0, 4]; both addresses aligned to 4.
__device__ inline void copy_async4(void* shared, const void* global, int bytes = 4,
                                   CallSite site = CallSite::here()) {
  detail::copy_async<4>(shared, global, bytes, site);
}
// Ends a group of copies.
__device__ inline void copy_async_commit([[maybe_unused]] CallSite site = CallSite::here()) {
#ifdef ML_SIMT
  ::simt::copy_async_commit(site);
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Waits until at most n of this thread's groups are under way.
template <int n>
__device__ inline void copy_async_wait([[maybe_unused]] CallSite site = CallSite::here()) {
#ifdef ML_SIMT
  ::simt::copy_async_wait(n, site);
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
#endif
}

// ---- Reduction of a 32-bit number over the warp.

enum class Redux { add, min, max };

template <Redux kind>
__device__ inline uint32_t redux(uint32_t v, [[maybe_unused]] CallSite site = CallSite::here()) {
#ifdef ML_SIMT
  return ::simt::redux(kind == Redux::add   ? ::simt::Atomic::add
                       : kind == Redux::min ? ::simt::Atomic::min
                                            : ::simt::Atomic::max,
                       v, site);
#elif __CUDA_ARCH__ >= 800
  if constexpr (kind == Redux::add) return __reduce_add_sync(0xffffffffu, v);
  if constexpr (kind == Redux::min) return __reduce_min_sync(0xffffffffu, v);
  return __reduce_max_sync(0xffffffffu, v);
#else
#pragma unroll
  for (int bits = 16; bits > 0; bits /= 2) {
    const uint32_t other = __shfl_xor_sync(0xffffffffu, v, bits);
    v = kind == Redux::add ? v + other : kind == Redux::min ? min(v, other) : max(v, other);
  }
  return v;
#endif
}

#ifndef ML_SIMT

// ---- Cache hints. 1, 2, 4, 8 or 16 bytes, aligned.

// Read once by this SM and written by nobody in this kernel: not kept in L1, fetched into L2 by
// whole lines.
template <int kBytes>
__device__ inline void load_global_once(void* to, const void* from) {
  static_assert(kBytes <= 16);
  if constexpr (kBytes == 16) {
    uint4& r = *static_cast<uint4*>(to);
    asm("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w)
        : "l"(from));
  } else if constexpr (kBytes == 8) {
    uint2& r = *static_cast<uint2*>(to);
    asm("ld.global.nc.L1::no_allocate.L2::128B.v2.u32 {%0, %1}, [%2];"
        : "=r"(r.x), "=r"(r.y)
        : "l"(from));
  } else if constexpr (kBytes == 4) {
    asm("ld.global.nc.L1::no_allocate.L2::128B.u32 %0, [%1];"
        : "=r"(*static_cast<uint32_t*>(to))
        : "l"(from));
  } else if constexpr (kBytes == 2) {
    asm("ld.global.nc.L1::no_allocate.L2::128B.u16 %0, [%1];"
        : "=h"(*static_cast<uint16_t*>(to))
        : "l"(from));
  } else {
    *static_cast<char*>(to) = *static_cast<const char*>(from);
  }
}

// The same where `wanted`, else zeros: one predicated instruction, so that several of these are on
// their way at once, which a branch around each would not allow. kOnce as load_global_once, else a
// load like any other.
template <int kBytes, bool kOnce>
__device__ inline void load_global_if(void* to, const void* from, bool wanted) {
  static_assert(kBytes <= 16);
  const int p = wanted;
#define ML_LOAD_IF(type, registers, zeros, out, predicate, address)                         \
  if constexpr (kOnce) {                                                                    \
    asm("{ .reg .pred p; setp.ne.s32 p, " predicate ", 0; " zeros                           \
        " @p ld.global.nc.L1::no_allocate.L2::128B" type " " registers ", [" address "]; }" \
        : out                                                                               \
        : "l"(from), "r"(p));                                                               \
  } else {                                                                                  \
    asm("{ .reg .pred p; setp.ne.s32 p, " predicate ", 0; " zeros " @p ld.global" type      \
        " " registers ", [" address "]; }"                                                  \
        : out                                                                               \
        : "l"(from), "r"(p));                                                               \
  }
#define ML_OUT4 "=&r"(r.x), "=&r"(r.y), "=&r"(r.z), "=&r"(r.w)
#define ML_OUT2 "=&r"(r.x), "=&r"(r.y)
  if constexpr (kBytes == 16) {
    uint4& r = *static_cast<uint4*>(to);
    ML_LOAD_IF(".v4.u32", "{%0, %1, %2, %3}",
               "mov.u32 %0, 0; mov.u32 %1, 0; mov.u32 %2, 0; mov.u32 %3, 0;", ML_OUT4, "%5", "%4")
  } else if constexpr (kBytes == 8) {
    uint2& r = *static_cast<uint2*>(to);
    ML_LOAD_IF(".v2.u32", "{%0, %1}", "mov.u32 %0, 0; mov.u32 %1, 0;", ML_OUT2, "%3", "%2")
  } else if constexpr (kBytes == 4) {
    ML_LOAD_IF(".u32", "%0", "mov.u32 %0, 0;", "=&r"(*static_cast<uint32_t*>(to)), "%2", "%1")
  } else if constexpr (kBytes == 2) {
    ML_LOAD_IF(".u16", "%0", "mov.u16 %0, 0;", "=&h"(*static_cast<uint16_t*>(to)), "%2", "%1")
  } else {
    uint32_t byte;
    ML_LOAD_IF(".u8", "%0", "mov.u32 %0, 0;", "=&r"(byte), "%2", "%1")
    *static_cast<uint8_t*>(to) = static_cast<uint8_t>(byte);
  }
#undef ML_OUT2
#undef ML_OUT4
#undef ML_LOAD_IF
}

// Evicted first.
template <int kBytes>
__device__ inline void store_global_streaming(void* to, const void* from) {
  static_assert(kBytes <= 16);
  if constexpr (kBytes == 16) {
    __stcs(static_cast<uint4*>(to), *static_cast<const uint4*>(from));
  } else if constexpr (kBytes == 8) {
    __stcs(static_cast<uint2*>(to), *static_cast<const uint2*>(from));
  } else if constexpr (kBytes == 4) {
    __stcs(static_cast<uint32_t*>(to), *static_cast<const uint32_t*>(from));
  } else if constexpr (kBytes == 2) {
    __stcs(static_cast<unsigned short*>(to), *static_cast<const unsigned short*>(from));
  } else {
    *static_cast<char*>(to) = *static_cast<const char*>(from);
  }
}

// ---- Conversions by the device's instructions.

__device__ inline float convert_to_float(float x) { return x; }
__device__ inline float convert_to_float(Half x) { return __half2float(__ushort_as_half(x.bits)); }
__device__ inline float convert_to_float(BFloat16 x) {
  return __uint_as_float(static_cast<uint32_t>(x.bits) << 16);
}

template <class T>
__device__ inline T convert_from_float(float x);
template <>
__device__ inline float convert_from_float<float>(float x) {
  return x;
}
template <>
__device__ inline Half convert_from_float<Half>(float x) {
  return {__half_as_ushort(__float2half_rn(x))};
}
template <>
__device__ inline BFloat16 convert_from_float<BFloat16>(float x) {
  return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
}

#endif

}  // namespace ml::ML_CUDA_NAMESPACE
