#pragma once
// The cores that threads run on. When every core is busy for a moment, for instance with a thread
// that is about to wait for the run, the scheduler queues a worker behind the caller, on the same
// core, and leaves it there for milliseconds while another core idles (decisions/0007).

#include <sched.h>
#include <sys/types.h>

#include <atomic>
#include <cstdint>

namespace ml::cpu {

// Cores this process may run on: of its affinity, and of its container's quota of time.
int usable_cores();

// What a thread of the pool publishes about itself.
class WorkerState {
 public:
  void register_thread();  // first of all, once
  // while it polls for a run
  void publish_cpu() { cpu_.store(sched_getcpu(), std::memory_order_relaxed); }
  void publish_sleep() { cpu_.store(kSleeping, std::memory_order_relaxed); }
  void acknowledge(uint32_t epoch) { epoch_.store(epoch, std::memory_order_relaxed); }

 private:
  friend void migrate_late_workers(WorkerState*, int, uint32_t);
  static constexpr int kSleeping = -1;  // instead of a core's number
  alignas(64) std::atomic<pid_t> thread_{0};
  std::atomic<int> cpu_{kSleeping};
  std::atomic<uint32_t> epoch_{0};  // of the newest run it has entered
};

// Migrates those of `count` workers that have not entered the run of this epoch and may be queued
// on the caller's core. Afterwards they may run everywhere again: a thread stays where it was
// moved.
void migrate_late_workers(WorkerState* workers, int count, uint32_t epoch);

}  // namespace ml::cpu
