#pragma once
// One pool of threads for the process, made when first needed and never destroyed (Node unloads an
// addon while threads may still run; the addon is linked with -z nodelete for the same reason).

#include <functional>

#include "cpu/context.h"

namespace ml::cpu {

int usable_cores();  // cores this process may run on

// Runs body over [0, n) in pieces of `grain` on at most `threads` threads, the caller and perhaps
// one that waits among them; returns when all is done. Each thread begins with its own share,
// pieces side by side and the same from run to run, and then takes from the ends of the others'. If
// another stream is using the pool, the caller does all the pieces itself.
void pool_run(int threads, int64_t n, int64_t grain, RangeBody body);

// A thread that waits and meanwhile helps: it is awake, and a helper of the pool's own, in whose
// place it works, may sleep.
class Waiting {
 public:
  Waiting();
  ~Waiting();
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

  // Takes part in the run there is, of whatever stream, until none of its pieces is left or,
  // between two, done() holds. False if there is none, or somebody was quicker.
  bool help(const std::function<bool()>& done);

  // A thread will soon wait: the next runs keep a place for it, and call a helper only if it does
  // not come.
  static void expect();
};

}  // namespace ml::cpu
