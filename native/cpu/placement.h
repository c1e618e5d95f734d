#pragma once
// Where the helpers of a run wake. When every core is busy for a moment, for instance with a thread that is about to wait for the run, the
// scheduler puts a helper on the caller's own core and leaves it there for milliseconds, while another core idles.

#include <sched.h>
#include <sys/types.h>

#include <atomic>

namespace ml::cpu {

// What a helper tells about itself.
class Whereabouts {
 public:
  void introduce();  // once, first of all
  void look() { core_.store(sched_getcpu(), std::memory_order_relaxed); }  // while it looks for work
  void sleep() { core_.store(kAsleep, std::memory_order_relaxed); }

 private:
  friend class KeepOff;
  static constexpr int kAsleep = -1;  // in place of a core
  alignas(64) std::atomic<pid_t> thread_{0};
  std::atomic<int> core_{kAsleep};
};

// For as long as it lives, helpers that would wake on the caller's core, or stand behind the caller there, are kept off it. Made before they are
// called and destroyed after: a thread that was sent to a core stays there when it may go everywhere again.
class KeepOff {
 public:
  KeepOff(const Whereabouts* helpers, int count);
  ~KeepOff();
  KeepOff(const KeepOff&) = delete;
  KeepOff& operator=(const KeepOff&) = delete;

 private:
  static constexpr int kMost = 16;  // for more, the system calls would cost more than they save
  struct Kept {
    pid_t thread;
    cpu_set_t allowed;
  } kept_[kMost];
  int count_ = 0;
};

}  // namespace ml::cpu
