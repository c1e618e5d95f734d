#include "device/stream.h"

#include <algorithm>
#include <new>

namespace ml {

Stream::Stream()
    : no_memory_(std::make_shared<const Fault>(
          Error(Code::out_of_memory, "no memory left for the work of the device."), 0)) {
  unreported_.reserve(kMaxUnreported);  // so that found() allocates nothing
}

FaultPtr Stream::fail(const Error& error, Ticket ticket) noexcept {
  FaultPtr fault = no_memory_;
  try {
    fault = std::make_shared<const Fault>(error, ticket);
  } catch (const std::bad_alloc&) {
  }
  found(ticket, fault);
  return fault;
}

void Stream::found(Ticket ticket, FaultPtr fault) noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  if (unreported_.size() >= kMaxUnreported)
    std::erase_if(unreported_, [](const Found& f) { return f.fault->reported(); });
  if (unreported_.size() < kMaxUnreported) unreported_.push_back({ticket, std::move(fault)});
}

FaultPtr Stream::report_fault(Ticket last) {
  std::lock_guard<std::mutex> lock(mutex_);
  std::erase_if(unreported_, [](const Found& f) { return f.fault->reported(); });
  const auto earliest =
      std::min_element(unreported_.begin(), unreported_.end(),
                       [](const Found& a, const Found& b) { return a.ticket < b.ticket; });
  if (earliest == unreported_.end() || earliest->ticket > last) return nullptr;
  FaultPtr fault = std::move(earliest->fault);
  unreported_.erase(earliest);
  fault->report();
  return fault;
}

void Stream::complete(Ticket ticket) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    completed_.store(ticket, std::memory_order_release);
  }
  progress_.notify_all();
}

void Stream::wait_for_submitted() {
  std::unique_lock<std::mutex> lock(mutex_);
  progress_.wait(lock, [this] { return completed() == submitted_; });
}

bool Stream::wait_for(std::chrono::milliseconds limit) {
  std::unique_lock<std::mutex> lock(mutex_);
  return progress_.wait_for(lock, limit, [this] { return completed() == submitted_; });
}

std::vector<OperationTime> Stream::take_times() {
  collect_times();
  return operation_times_.take();
}

}  // namespace ml
