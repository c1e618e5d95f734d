#pragma once
// Spinning: polling for a time that is short beside the waking of a thread.

#include <chrono>
#include <thread>

#include "core/pause.h"
#include "cpu/placement.h"

namespace ml::cpu {

// Returns when done() holds or the time is up; at once on a single core, where no other thread
// could make it hold meanwhile.
template <class Done>
void spin_until(const Done& done) {
  constexpr std::chrono::microseconds kSpinTime{60};
  constexpr int kPollsPerClockRead = 64;
  static const bool single_core = usable_cores() == 1;
  if (single_core || done()) return;
  const auto end = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < kPollsPerClockRead; ++i) {
      pause_cpu();
      if (done()) return;
    }
    std::this_thread::yield();  // to a thread that is queued on this core
  } while (std::chrono::steady_clock::now() < end);
}

}  // namespace ml::cpu
