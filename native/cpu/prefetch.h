#pragma once
// Prefetches of whole cache lines. A macro-like inline: the compiler takes a function that only
// prefetches for one without effect and drops its calls, so these must be part of their callers.

#include <cstdint>

namespace ml::cpu {

constexpr int64_t kCacheLine = 64;

[[gnu::always_inline]] inline void prefetch_l1d(const void* p) { __builtin_prefetch(p, 0, 3); }
// into the second cache
[[gnu::always_inline]] inline void prefetch_l2(const void* p) { __builtin_prefetch(p, 0, 2); }
// Takes the line from other cores, too: one that is only read first is asked for twice. Every x86
// core of 64 bits knows the instruction, or passes it over; the compiler needs to be told so.
[[gnu::always_inline]] inline void prefetch_for_write(const void* p) {
#if defined(__x86_64__)
  asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(p)));
#else
  __builtin_prefetch(p, 1, 3);
#endif
}

// How many rows ahead of the reading to prefetch: `bytes` of them, but at most `most`.
inline int64_t prefetch_distance(int64_t row_bytes, int64_t bytes, int64_t most) {
  const int64_t rows = bytes / (row_bytes > 0 ? row_bytes : 1);
  return rows > most ? most : (rows < 2 ? 2 : rows);
}

}  // namespace ml::cpu
