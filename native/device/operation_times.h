#pragma once
// How long the operations of a stream took, summed by name. Thread-safe.

#include <cstdint>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace ml {

struct OperationTime {
  const char* name;
  int64_t calls;
  double seconds;
};

class OperationTimes {
 public:
  // `name` is a literal, compared by address. A time that there is no memory for is lost.
  void add(const char* name, double seconds) noexcept try {
    std::lock_guard<std::mutex> lock(mutex_);
    for (OperationTime& t : times_) {
      if (t.name != name) continue;
      ++t.calls;
      t.seconds += seconds;
      return;
    }
    times_.push_back({name, 1, seconds});
  } catch (const std::bad_alloc&) {
  }

  std::vector<OperationTime> take() {
    std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(times_, {});
  }

 private:
  std::mutex mutex_;
  std::vector<OperationTime> times_;
};

}  // namespace ml
