#pragma once
// Waiting awake, for a time that is short beside the waking of a thread.

#include <chrono>
#include <thread>

#include "core/pause.h"
#include "cpu/thread_pool.h"

namespace ml::cpu {

// Returns when done() holds or the time is up; at once on a single core, where nobody else could
// make it hold meanwhile.
template <class Done>
void spin_until(const Done& done) {
  constexpr std::chrono::microseconds kLongest{60};
  constexpr int kLooks = 64;  // for one at the clock
  static const bool alone = usable_cores() == 1;
  if (alone || done()) return;
  const auto end = std::chrono::steady_clock::now() + kLongest;
  do {
    for (int i = 0; i < kLooks; ++i) {
      pause_cpu();
      if (done()) return;
    }
    std::this_thread::yield();  // to whoever has no core of its own
  } while (std::chrono::steady_clock::now() < end);
}

}  // namespace ml::cpu
