#include "cpu/placement.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <thread>

#include "cpu/container.h"

namespace ml::cpu {

int usable_cores() {
  static const double quota = std::ceil(container_limits("").cores);
  cpu_set_t set;
  const int cores = sched_getaffinity(0, sizeof(set), &set) == 0
                        ? CPU_COUNT(&set)
                        : static_cast<int>(std::thread::hardware_concurrency());
  return static_cast<int>(std::clamp<double>(cores, 1, std::max(1.0, quota)));
}

void WorkerState::register_thread() {
  thread_.store(static_cast<pid_t>(syscall(SYS_gettid)), std::memory_order_release);
}

void migrate_late_workers(WorkerState* workers, int count, uint32_t epoch) {
  const int own = sched_getcpu();
  if (own < 0 || own >= CPU_SETSIZE) return;
  for (int i = 0; i < count; ++i) {
    const WorkerState& worker = workers[i];
    const pid_t thread = worker.thread_.load(std::memory_order_acquire);
    const int cpu = worker.cpu_.load(std::memory_order_relaxed);
    // sleeping: woken, but it has not run yet
    const bool queued_here = cpu == own || cpu == WorkerState::kSleeping;
    const bool entered = worker.epoch_.load(std::memory_order_relaxed) == epoch;
    if (thread == 0 || !queued_here || entered) continue;
    cpu_set_t allowed;
    if (sched_getaffinity(thread, sizeof(allowed), &allowed) != 0) continue;
    cpu_set_t others = allowed;
    CPU_CLR(own, &others);
    if (CPU_COUNT(&others) == 0) continue;
    sched_setaffinity(thread, sizeof(others), &others);
    sched_setaffinity(thread, sizeof(allowed), &allowed);
  }
}

}  // namespace ml::cpu
