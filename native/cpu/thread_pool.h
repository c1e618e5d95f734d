#pragma once
// One pool of threads for the process, made when first needed and never destroyed: Node unloads an
// addon while threads may still run. The addon is linked with -z nodelete for the same reason.

#include <functional>

#include "cpu/context.h"

namespace ml::cpu {

// Runs body over [0, n) in tasks of `grain` elements on at most `threads` workers; returns when all
// are done. Worker 0 is the caller, the others are threads of the pool or, as the last one, a
// WaitingThread. Each worker starts with its own work range, consecutive tasks and the same from
// run to run, and then steals from the tails of the others' ranges (decisions/0008). If another
// stream is using the pool, the caller does all tasks itself.
void pool_run(int threads, int64_t n, int64_t grain, RangeBody body);

// A thread that waits for a stream. While it spins it may join a run as the last worker, so that
// the thread of the pool with that number can sleep on (decisions/0009).
class WaitingThread {
 public:
  WaitingThread();
  ~WaitingThread();
  WaitingThread(const WaitingThread&) = delete;
  WaitingThread& operator=(const WaitingThread&) = delete;

  // Joins the run there is, of whatever stream, and works until no task is left or, between two
  // tasks, done() holds. False if there is no run, or its last worker has been claimed.
  bool join_run(const std::function<bool()>& done);

  // A thread will soon wait: runs that start shortly after this reserve their last worker for it,
  // and wake the pool's thread only if it does not come.
  static void expect();
};

}  // namespace ml::cpu
