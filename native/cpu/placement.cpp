#include "cpu/placement.h"

#include <sys/syscall.h>
#include <unistd.h>

namespace ml::cpu {

void Whereabouts::introduce() {
  thread_.store(static_cast<pid_t>(syscall(SYS_gettid)), std::memory_order_release);
}

void send_off(Whereabouts* helpers, int count, uint32_t turn) {
  const int own = sched_getcpu();
  if (own < 0 || own >= CPU_SETSIZE) return;
  for (int i = 0; i < count; ++i) {
    const pid_t thread = helpers[i].thread_.load(std::memory_order_acquire);
    const int core = helpers[i].core_.load(std::memory_order_relaxed);
    // asleep: woken, but it has not run yet
    const bool behind = core == own || core == Whereabouts::kAsleep;
    if (thread == 0 || !behind || helpers[i].turn_.load(std::memory_order_relaxed) == turn)
      continue;
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
