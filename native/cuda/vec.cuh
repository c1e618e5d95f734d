#pragma once
// Loads and stores of up to 16 bytes as one instruction, and conversions between the
// dtypes and float.

#include <cstdint>

#ifndef ML_SIMT
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

#include "core/half.h"
#include "cuda/namespace.h"
#include "cuda/ptx_memory.cuh"

namespace ml::ML_CUDA_NAMESPACE {

// n elements that are loaded and stored at once: n * sizeof(T) is 1, 2, 4, 8 or 16 bytes.
template <class T, int n>
struct alignas(n * sizeof(T)) Pack {
  T v[n];
  static constexpr int kBytes = n * static_cast<int>(sizeof(T));
  static_assert(kBytes <= 16 && (kBytes & (kBytes - 1)) == 0);
};

// n elements at `from`, aligned to n * sizeof(T); global or shared memory.
template <int n, class T>
__device__ inline Pack<T, n> load(const T* from,
                                  [[maybe_unused]] CallSite site = CallSite::here()) {
#ifdef ML_SIMT
  Pack<T, n> p;
  ::simt::load_vector(&p, from, sizeof(p), site);
  return p;
#else
  return *reinterpret_cast<const Pack<T, n>*>(from);
#endif
}

// As load where `predicate` is true, else zeros, without a branch: for loads of global memory that
// should be in flight together.
template <int n, Caching kCaching = Caching::kept, class T>
__device__ inline Pack<T, n> load_if(bool predicate, const T* from,
                                     [[maybe_unused]] CallSite site = CallSite::here()) {
#ifdef ML_SIMT
  return predicate ? load<n>(from, site) : Pack<T, n>{};
#else
  Pack<T, n> p;
  load_global_if<Pack<T, n>::kBytes, kCaching>(&p, from, predicate);
  return p;
#endif
}

template <int n, class T>
__device__ inline void store(T* to, const Pack<T, n>& p,
                             [[maybe_unused]] CallSite site = CallSite::here()) {
#ifdef ML_SIMT
  ::simt::store_vector(to, &p, sizeof(p), site);
#else
  *reinterpret_cast<Pack<T, n>*>(to) = p;
#endif
}

// As store, to global memory that is not read again soon: evicted from L2 first.
template <int n, class T>
__device__ inline void store_streaming(T* to, const Pack<T, n>& p,
                                       [[maybe_unused]] CallSite site = CallSite::here()) {
#ifdef ML_SIMT
  store<n>(to, p, site);
#else
  store_global_streaming<Pack<T, n>::kBytes>(to, &p);
#endif
}

// Exact towards float, round to nearest even from it; the same rules as core/half.h, by the
// device's own instructions.
#ifdef ML_SIMT
template <class T>
__device__ inline float widen(T x) {
  return to_float(x);
}
template <class T>
__device__ inline T narrow(float x) {
  return from_float<T>(x);
}
#else
__device__ inline float widen(float x) { return x; }
__device__ inline float widen(Half x) { return __half2float(__ushort_as_half(x.bits)); }
__device__ inline float widen(BFloat16 x) {
  return __uint_as_float(static_cast<uint32_t>(x.bits) << 16);
}
template <class T>
__device__ inline T narrow(float x);
template <>
__device__ inline float narrow<float>(float x) {
  return x;
}
template <>
__device__ inline Half narrow<Half>(float x) {
  return {__half_as_ushort(__float2half_rn(x))};
}
template <>
__device__ inline BFloat16 narrow<BFloat16>(float x) {
  return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
}
#endif

template <class T, int n>
__device__ inline void widen(float (&to)[n], const Pack<T, n>& from) {
#pragma unroll
  for (int i = 0; i < n; i++) to[i] = widen(from.v[i]);
}

template <class T, int n>
__device__ inline Pack<T, n> narrow(const float (&from)[n]) {
  Pack<T, n> p;
#pragma unroll
  for (int i = 0; i < n; i++) p.v[i] = narrow<T>(from[i]);
  return p;
}

// Elements per load: the largest n with n * sizeof(T) in {16, 8, 4, 2} bytes that divides the
// address and the row's length (elements) alike. Rows of such a table can be read in Pack<T, n>
// from the first element to the last.
template <class T>
__host__ __device__ constexpr int widest(uintptr_t address, int64_t row) {
  int n = 16 / static_cast<int>(sizeof(T));
  while (n > 1 && (row % n != 0 || address % (n * sizeof(T)) != 0)) n /= 2;
  return n;
}
template <class T>
inline int widest(const T* pointer, int64_t row) {
  return widest<T>(reinterpret_cast<uintptr_t>(pointer), row);
}

}  // namespace ml::ML_CUDA_NAMESPACE
