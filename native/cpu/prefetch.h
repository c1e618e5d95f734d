#pragma once
// Prefetches of whole cache lines. always_inline, since the compiler takes a function that only
// prefetches for one without effect and drops its calls.

#include <cstdint>

namespace ml::cpu {

constexpr int64_t kCacheLine = 64;  // bytes
constexpr int kFloatsPerLine = kCacheLine / static_cast<int>(sizeof(float));

[[gnu::always_inline]] inline void prefetch_l1d(const void* p) { __builtin_prefetch(p, 0, 3); }
[[gnu::always_inline]] inline void prefetch_l2(const void* p) { __builtin_prefetch(p, 0, 2); }
// Invalidates the line in other cores as well: a line that is loaded first and then stored to is
// requested twice. Every 64-bit x86 core knows the instruction or ignores it, but the compiler does
// not take it for granted: hence asm.
[[gnu::always_inline]] inline void prefetch_for_write(const void* p) {
#if defined(__x86_64__)
  asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(p)));
#else
  __builtin_prefetch(p, 1, 3);
#endif
}

// How many rows ahead of their use to prefetch: `bytes` of them, from 2 to max_rows.
inline int64_t prefetch_distance(int64_t row_bytes, int64_t bytes, int64_t max_rows) {
  const int64_t rows = bytes / (row_bytes > 0 ? row_bytes : 1);
  return rows > max_rows ? max_rows : (rows < 2 ? 2 : rows);
}

}  // namespace ml::cpu
