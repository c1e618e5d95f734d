#pragma once
// For the threads of a stream: bookkeeping that nothing can go on without, and that there is no one
// to report an error to.

#include <chrono>
#include <new>
#include <thread>

namespace ml {

// Calls f() until there is memory for it. It must change nothing when there is none.
template <class F>
void insist(const F& f) {
  for (;;) {
    try {
      return f();
    } catch (const std::bad_alloc&) {
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
  }
}

}  // namespace ml
