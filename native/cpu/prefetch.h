#pragma once
// Prefetches of whole cache lines. A macro-like inline: the compiler takes a function that only prefetches for one without effect and
// drops its calls, so these must be part of their callers.

#include <cstdint>

namespace ml::cpu {

constexpr int64_t kLine = 64;

[[gnu::always_inline]] inline void prefetch_line(const void* p) { __builtin_prefetch(p, 0, 3); }
[[gnu::always_inline]] inline void prefetch_second(const void* p) { __builtin_prefetch(p, 0, 2); }  // into the second cache

// How many rows ahead of the reading to prefetch: `bytes` of them, but at most `most`.
inline int64_t rows_ahead(int64_t row_bytes, int64_t bytes, int64_t most) {
  const int64_t rows = bytes / (row_bytes > 0 ? row_bytes : 1);
  return rows > most ? most : (rows < 2 ? 2 : rows);
}

}  // namespace ml::cpu
