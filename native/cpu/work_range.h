#pragma once
// The tasks of a run that one worker starts with: it pops them from the front, and workers without
// tasks of their own steal from the tail.

#include <atomic>
#include <cstdint>
#include <optional>

namespace ml::cpu {

// [begin, end) in one word, begin in the lower and end in the upper 32 bits. Every access is
// relaxed: the word decides who has a task and publishes nothing; RunState does that.
class alignas(64) WorkRange {
 public:
  static constexpr int64_t kMaxTasks = INT32_MAX;

  // Between runs only.
  void assign(int64_t begin, int64_t end) {
    word_.store(begin | end << 32, std::memory_order_relaxed);
  }

  std::optional<int64_t> pop_front() { return remove<true>(); }
  std::optional<int64_t> steal_tail() { return remove<false>(); }

 private:
  template <bool front>
  std::optional<int64_t> remove() {
    int64_t now = word_.load(std::memory_order_relaxed), task, next;
    do {
      const int64_t begin = now & 0xffffffff, end = now >> 32;
      if (begin >= end) return std::nullopt;
      task = front ? begin : end - 1;
      next = front ? now + 1 : now - (int64_t{1} << 32);
    } while (!word_.compare_exchange_weak(now, next, std::memory_order_relaxed));
    return task;
  }

  std::atomic<int64_t> word_{0};
};

}  // namespace ml::cpu
