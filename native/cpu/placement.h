#pragma once
// Where the helpers of a run wait. When every core is busy for a moment, for instance with a thread
// that is about to wait for the run, the scheduler puts a helper on the caller's own core and
// leaves it there for milliseconds, while another core idles.

#include <sched.h>
#include <sys/types.h>

#include <atomic>
#include <cstdint>

namespace ml::cpu {

// What a helper tells about itself.
class Whereabouts {
 public:
  void introduce();  // once, first of all
  // while it looks for work
  void look() { core_.store(sched_getcpu(), std::memory_order_relaxed); }
  void sleep() { core_.store(kAsleep, std::memory_order_relaxed); }
  void come(uint32_t turn) { turn_.store(turn, std::memory_order_relaxed); }

 private:
  friend void send_off(Whereabouts*, int, uint32_t);
  static constexpr int kAsleep = -1;  // in place of a core
  alignas(64) std::atomic<pid_t> thread_{0};
  std::atomic<int> core_{kAsleep};
  std::atomic<uint32_t> turn_{0};
};

// Sends helpers that have not come to this turn from the caller's core, behind which they may
// stand, to another. They may go everywhere again at once: a thread stays where it was sent.
void send_off(Whereabouts* helpers, int count, uint32_t turn);

}  // namespace ml::cpu
