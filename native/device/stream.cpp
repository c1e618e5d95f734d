#include "device/stream.h"

namespace ml {

void Stream::complete(Ticket ticket, const std::optional<Fault>& fault) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (fault) found_ = fault;
    completed_.store(ticket, std::memory_order_release);
  }
  progress_.notify_all();
}

std::optional<Fault> Stream::wait_for_submitted() {
  std::unique_lock<std::mutex> lock(mutex_);
  progress_.wait(lock, [this] { return completed() == submitted_; });
  return unreported() ? found_ : std::nullopt;
}

bool Stream::wait_for(std::chrono::milliseconds limit) {
  std::unique_lock<std::mutex> lock(mutex_);
  return progress_.wait_for(lock, limit, [this] { return completed() == submitted_; });
}

// A completion may report the fault before complete() stores it.
void Stream::acknowledge(Ticket first) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (first <= acknowledged_) return;
    acknowledged_ = first;
  }
  voided_.push_back({first, submitted_});
  resume();
}

bool Stream::faulted() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return unreported();
}

bool Stream::voided(Ticket ticket) const {
  for (const Range& r : voided_)
    if (ticket >= r.first && ticket <= r.last) return true;
  return false;
}

std::vector<OperationTime> Stream::take_times() {
  collect_times();
  return operation_times_.take();
}

}  // namespace ml
