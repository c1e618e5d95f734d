#include "cpu/placement.h"

#include <sys/syscall.h>
#include <unistd.h>

namespace ml::cpu {

void Whereabouts::introduce() { thread_.store(static_cast<pid_t>(syscall(SYS_gettid)), std::memory_order_release); }

KeepOff::KeepOff(const Whereabouts* helpers, int count) {
  const int own = sched_getcpu();
  if (own < 0 || own >= CPU_SETSIZE) return;
  for (int i = 0; i < count && count_ < kMost; ++i) {
    const pid_t thread = helpers[i].thread_.load(std::memory_order_acquire);
    const int core = helpers[i].core_.load(std::memory_order_relaxed);
    if (thread == 0 || (core != own && core != Whereabouts::kAsleep)) continue;
    Kept& kept = kept_[count_];
    if (sched_getaffinity(thread, sizeof(kept.allowed), &kept.allowed) != 0) continue;
    cpu_set_t others = kept.allowed;
    CPU_CLR(own, &others);
    if (CPU_COUNT(&others) == 0 || sched_setaffinity(thread, sizeof(others), &others) != 0) continue;
    kept.thread = thread;
    ++count_;
  }
}

KeepOff::~KeepOff() {
  for (int i = 0; i < count_; ++i) sched_setaffinity(kept_[i].thread, sizeof(kept_[i].allowed), &kept_[i].allowed);
}

}  // namespace ml::cpu
