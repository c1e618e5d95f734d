#pragma once
// What the native tests share: each is a program whose first failed check ends it.

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

inline std::atomic<int> checks{0};

inline void require(bool ok, const char* what) {
  checks.fetch_add(1, std::memory_order_relaxed);
  if (ok) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::exit(1);
}

inline void report() { std::printf("%d passed, 0 failed\n", checks.load()); }

// Sleeps `times` times as long as a sleeping thread takes to wake and begin its work.
inline void sleep_wake_times(int times) {
  if (times > 0) std::this_thread::sleep_for(std::chrono::microseconds(60 * times));
}
