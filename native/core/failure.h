#pragma once
// Failures on demand, for tests: in a development build (ML_FAILURES) a test makes the n-th call of
// a kind fail, as the system may. A release has none of this.

#include <atomic>
#include <cstdint>

namespace ml {

// What can be refused. In the order of test/support/failures.ts.
enum class Failure {
  allocation,   // memory of a tensor
  malloc,       // host memory: operator new of the addon, staging, scratch space
  thread,       // the start of a thread
  file,         // a call on a file
  cuda,         // a call of the emulated CUDA runtime
  cuda_memory,  // an allocation of that, on the device or pinned
};
constexpr int count_of(Failure) { return 6; }

#ifdef ML_FAILURES

struct FailurePlan {
  std::atomic<bool> armed{false};
  std::atomic<int64_t> calls{0};           // since it was armed
  std::atomic<int64_t> first{0}, last{0};  // the calls that fail, counted from 1
};
inline FailurePlan failure_plans[count_of(Failure{})];

// While one exists, host memory of this thread is not counted: for the emulator's own.
class Uncounted {
 public:
  Uncounted() { ++depth; }
  ~Uncounted() { --depth; }
  Uncounted(const Uncounted&) = delete;
  Uncounted& operator=(const Uncounted&) = delete;
  static bool active() { return depth > 0; }

 private:
  static inline thread_local int depth = 0;
};

// Counts a call. True: it must fail.
inline bool fails(Failure kind) noexcept {
  FailurePlan& plan = failure_plans[static_cast<int>(kind)];
  if (!plan.armed.load(std::memory_order_relaxed)) return false;
  if (kind == Failure::malloc && Uncounted::active()) return false;
  const int64_t call = plan.calls.fetch_add(1, std::memory_order_relaxed) + 1;
  return call >= plan.first.load(std::memory_order_relaxed) &&
         call <= plan.last.load(std::memory_order_relaxed);
}

// From here on `after` calls succeed, and the next `times` fail.
inline void fail_next(Failure kind, int64_t after, int64_t times) noexcept {
  FailurePlan& plan = failure_plans[static_cast<int>(kind)];
  plan.armed = false;
  plan.calls = 0;
  plan.first = after + 1;
  plan.last = after + times;
  plan.armed = true;
}

inline int64_t failure_calls(Failure kind) noexcept {
  return failure_plans[static_cast<int>(kind)].calls;
}

#else

constexpr bool fails(Failure) noexcept { return false; }

#endif

}  // namespace ml
