#pragma once
// Prefetches of whole cache lines. A macro-like inline: the compiler takes a function that only prefetches for one without effect and
// drops its calls, so these must be part of their callers.

#include <cstdint>

namespace ml::cpu {

constexpr int64_t kLine = 64;

[[gnu::always_inline]] inline void prefetch_line(const void* p) { __builtin_prefetch(p, 0, 3); }

// The lines of `bytes` bytes from p on, to be read or written.
[[gnu::always_inline]] inline void prefetch_to_write(const void* p, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += kLine) __builtin_prefetch(static_cast<const char*>(p) + i, 1, 3);
}

}  // namespace ml::cpu
