#pragma once
// Predicated loads and streaming stores of global memory: 1, 2, 4, 8 or 16 bytes, aligned. The
// emulator needs neither: vec.cuh gives it plain accesses.

#include <cstdint>

#include "cuda/namespace.h"

namespace ml::ML_CUDA_NAMESPACE {

// What a load does to the caches.
enum class Caching {
  kept,
  streaming,  // this SM reads it once, nobody writes it in this kernel: not in L1, L2 by 128 bytes
  once        // nobody reads it again soon: L1 and L2 evict it first
};

#ifndef ML_SIMT

// Loads where `predicate` is true, else gives zeros: one predicated instruction, so that several
// of these are in flight at once, which a branch around each would not allow. Volatile, so that the
// compiler moves none across a barrier, nor one before another.
template <int kBytes, Caching kCaching>
__device__ inline void load_global_if(void* to, const void* from, bool predicate) {
  static_assert(kBytes <= 16);
  const int p = predicate;
#define ML_LOAD_IF_AS(caching, type, registers, zeros, condition, address, ...) \
  asm volatile("{ .reg .pred p; setp.ne.s32 p, " condition ", 0; " zeros        \
               " @p ld.global" caching type " " registers ", [" address "]; }"  \
               : __VA_ARGS__                                                    \
               : "l"(from), "r"(p))
#define ML_LOAD_IF(...)                                         \
  if constexpr (kCaching == Caching::streaming) {               \
    ML_LOAD_IF_AS(".nc.L1::no_allocate.L2::128B", __VA_ARGS__); \
  } else if constexpr (kCaching == Caching::once) {             \
    ML_LOAD_IF_AS(".cs", __VA_ARGS__);                          \
  } else {                                                      \
    ML_LOAD_IF_AS("", __VA_ARGS__);                             \
  }
#define ML_OUT4 "=&r"(r.x), "=&r"(r.y), "=&r"(r.z), "=&r"(r.w)
#define ML_OUT2 "=&r"(r.x), "=&r"(r.y)
  if constexpr (kBytes == 16) {
    uint4& r = *static_cast<uint4*>(to);
    ML_LOAD_IF(".v4.u32", "{%0, %1, %2, %3}",
               "mov.u32 %0, 0; mov.u32 %1, 0; mov.u32 %2, 0; mov.u32 %3, 0;", "%5", "%4", ML_OUT4)
  } else if constexpr (kBytes == 8) {
    uint2& r = *static_cast<uint2*>(to);
    ML_LOAD_IF(".v2.u32", "{%0, %1}", "mov.u32 %0, 0; mov.u32 %1, 0;", "%3", "%2", ML_OUT2)
  } else if constexpr (kBytes == 4) {
    ML_LOAD_IF(".u32", "%0", "mov.u32 %0, 0;", "%2", "%1", "=&r"(*static_cast<uint32_t*>(to)))
  } else if constexpr (kBytes == 2) {
    ML_LOAD_IF(".u16", "%0", "mov.u16 %0, 0;", "%2", "%1", "=&h"(*static_cast<uint16_t*>(to)))
  } else {
    uint32_t byte;
    ML_LOAD_IF(".u8", "%0", "mov.u32 %0, 0;", "%2", "%1", "=&r"(byte))
    *static_cast<uint8_t*>(to) = static_cast<uint8_t>(byte);
  }
#undef ML_OUT2
#undef ML_OUT4
#undef ML_LOAD_IF
#undef ML_LOAD_IF_AS
}

// A store that L2 evicts first.
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

#endif

}  // namespace ml::ML_CUDA_NAMESPACE
