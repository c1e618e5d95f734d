#pragma once
// What a CPU kernel may use: threads and scratch memory. A kernel is a plain function
//     void ml::cpu::<op>(KernelContext&, const <Op>&)
// which runs in the stream's order, one at a time, and may throw ml::Error before it has changed
// anything.

#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

#include "core/limits.h"

namespace ml::cpu {

// body(begin, end, worker): worker in [0, threads)
struct RangeBody {
  void (*call)(void* object, int64_t begin, int64_t end, int worker);
  void* object;
};

class KernelContext {
 public:
  explicit KernelContext(int threads);
  ~KernelContext();
  KernelContext(const KernelContext&) = delete;
  KernelContext& operator=(const KernelContext&) = delete;

  int threads() const { return threads_; }

  // Calls body over [0, n) in tasks of `grain` elements (the last may be shorter), each exactly
  // once. Which worker runs which task is not fixed, but the tasks are: they depend on n and grain
  // alone. So results are bitwise identical for any number of threads if a task writes only its own
  // elements. The body must not throw. Calls nested in a run of the pool stay on their thread.
  template <class F>
  void parallel_for(int64_t n, int64_t grain, F&& body) {
    using Body = std::remove_reference_t<F>;
    run(n, grain,
        RangeBody{[](void* o, int64_t begin, int64_t end, int worker) {
                    (*static_cast<Body*>(o))(begin, end, worker);
                  },
                  const_cast<void*>(static_cast<const void*>(&body))});
  }

  // Memory until the operation ends, 64-byte aligned, contents undefined, reused by later
  // operations. Call it outside parallel_for; for one block per worker allocate threads() times as
  // much.
  template <class T>
  T* scratch(int64_t count) {
    return static_cast<T*>(scratch_bytes(scratch_size(count, sizeof(T))));
  }

  void reset_scratch();  // the stream calls this after every operation

 private:
  void run(int64_t n, int64_t grain, RangeBody body);
  void* scratch_bytes(int64_t bytes);

  struct Block {
    char* data;
    int64_t bytes;
    int64_t used;
  };
  int threads_;
  std::vector<Block> blocks_;
};

}  // namespace ml::cpu
