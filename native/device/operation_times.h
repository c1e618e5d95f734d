#pragma once
// How long the operations of a stream took, summed by name. Thread-safe.

#include <cstdint>
#include <mutex>
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
  // `name` is a literal, compared by address.
  void add(const char* name, double seconds) {
    std::lock_guard<std::mutex> lock(mutex_);
    for (OperationTime& t : times_) {
      if (t.name != name) continue;
      ++t.calls;
      t.seconds += seconds;
      return;
    }
    times_.push_back({name, 1, seconds});
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
