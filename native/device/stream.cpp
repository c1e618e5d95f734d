#include "device/stream.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "core/failure.h"

namespace ml {
namespace {

// how long a write may block the event loop
constexpr std::chrono::milliseconds kLongestWait{50};

// A step of a program.
class Again final : public Work {
 public:
  Again(Work& work, OutcomePtr settled) : work_(work) {
    name = work.name;
    outcome = std::move(settled);
  }
  void run(void* context) override { work_.run(context); }

  std::shared_ptr<Program> program;  // kept by the last

 private:
  Work& work_;
};

}  // namespace

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

void Stream::replay(const std::shared_ptr<Program>& program,
                    const std::vector<OutcomePtr>& outcomes) {
  WorkList list;
  for (size_t i = 0; i < outcomes.size(); ++i) {
    auto* again = new (*work_memory_) Again(*program->steps[i].work, outcomes[i]);
    if (i + 1 == outcomes.size()) again->program = program;
    list.push(WorkPtr(again));
  }
  hold(true);
  while (!list.empty()) launch(list.pop());
  hold(false);
}

// By the system clock, since a wait by the steady clock (pthread_cond_clockwait) is newer than the
// oldest glibc that the binary runs on.
template <typename Condition>
bool Stream::wait_for(std::unique_lock<std::mutex>& lock, std::chrono::milliseconds limit,
                      const Condition& condition) {
  return progress_.wait_until(lock, std::chrono::system_clock::now() + limit, condition);
}

void Stream::wait_for_submitted() {
  std::unique_lock<std::mutex> lock(mutex_);
  progress_.wait(lock, [this] { return completed() == submitted_; });
}

// One write is admitted alone, however large it is.
void Stream::admit(int64_t bytes) {
  const auto fits = [&] { return staged() == 0 || staged() + bytes <= staging_limit_; };
  if (!fits()) {
    hold(false);
    std::unique_lock<std::mutex> lock(mutex_);
    wait_for(lock, kLongestWait, fits);
  }
  if (!fits())
    throw Error(Code::out_of_memory,
                std::to_string(staged()) +
                    " bytes of earlier writes wait to be copied to the device, and at most " +
                    std::to_string(staging_limit_) +
                    " may.\n  `await device.synchronize()` between writes.");
  staged_.fetch_add(bytes, std::memory_order_relaxed);
}

std::shared_ptr<const void> Stream::stage(const void* source, size_t bytes) {
  const auto count = static_cast<int64_t>(bytes);
  admit(count);
  const auto release = [this, count](void* data) {
    std::free(data);
    staged_.fetch_sub(count, std::memory_order_relaxed);
  };
  void* data = fails(Failure::malloc) ? nullptr : std::malloc(std::max<size_t>(bytes, 1));
  if (!data) {
    release(nullptr);
    throw Error(Code::out_of_memory, "no memory to stage " + std::to_string(bytes) + " bytes.");
  }
  std::shared_ptr<void> staged(data, release);
  std::memcpy(data, source, bytes);
  return staged;
}

bool Stream::wait_for(std::chrono::milliseconds limit) {
  hold(false);
  std::unique_lock<std::mutex> lock(mutex_);
  return wait_for(lock, limit, [this] { return completed() == submitted_; });
}

std::vector<OperationTime> Stream::take_times() {
  collect_times();
  return operation_times_.take();
}

}  // namespace ml
