// The launch thread's side of outcomes and checks.

#include <bit>
#include <utility>

#include "cuda/checks.h"
#include "cuda/stream.h"

namespace ml::ML_CUDA_NAMESPACE {

// Before work is launched: the checks that it depends on. False if the host knows that it is void.
bool CudaStream::begin(const OutcomePtr& outcome, Ticket ticket) {
  std::lock_guard<std::mutex> lock(outcomes_mutex_);
  if (FaultPtr fault = outcome->inherited()) outcome->settle(std::move(fault));
  if (outcome->known()) return false;
  outcome->needs().each([&](const OutcomePtr& need) {
    if (!need->known()) outcome->checks |= need->checks;
  });
  work_checks_ = outcome->checks;
  FaultPtr fault = attempt(ticket, [&] {
    launched_.push_back({.ticket = ticket, .outcome = outcome});
    launching_ = &launched_.back();
  });
  if (fault) outcome->settle(std::move(fault));
  return !outcome->known();
}

void CudaStream::settle(Outcome& outcome, FaultPtr fault) {
  std::lock_guard<std::mutex> lock(outcomes_mutex_);
  outcome.settle(std::move(fault));
}

// Sees to it that the work at hand has a check of its own. False if it has been found to be void:
// it depends on a check that has failed, whose bit stays as long as this work takes no other.
bool CudaStream::take_check() {
  std::unique_lock<std::mutex> lock(outcomes_mutex_);
  if (launching_->check != kChecks) return true;
  if (free_checks_ == 0) {  // all are of earlier work
    lock.unlock();
    SyncPoint point;
    point.ticket = current_ - 1;
    enqueue(std::move(point));
    lock.lock();
    checks_freed_.wait(lock, [this] { return free_checks_ != 0; });
  }
  if (launching_->outcome->known()) return false;
  const uint32_t clear = free_checks_ & ~failed_checks_;
  const auto check = static_cast<uint32_t>(std::countr_zero(clear ? clear : free_checks_));
  const bool failed = (failed_checks_ & bit_of(check)) != 0;
  free_checks_ &= ~bit_of(check);
  failed_checks_ &= ~bit_of(check);
  launching_->check = check;
  ++unsynced_checks_;
  lock.unlock();
  if (failed) enqueue_clear(*this, bit_of(check));
  return true;
}

// The rest of the work at hand, and what depends on it, is void if the check fails.
void CudaStream::depend_on(uint32_t check) {
  work_checks_ |= bit_of(check);
  std::lock_guard<std::mutex> lock(outcomes_mutex_);
  launching_->outcome->checks |= bit_of(check);
}

void CudaStream::check(FaultSite site, const View& values) {
  check(site, values.as<int32_t>(), values.size());
}

void CudaStream::check(FaultSite site, const int32_t* values, int64_t count) {
  const auto enqueue_into = [&](std::vector<FaultSite>& sites, uint32_t check) {
    sites.push_back(site);
    enqueue_check(*this, site, static_cast<uint32_t>(sites.size() - 1), check, values, count);
  };
  if (recording_) {
    const uint32_t number = recorded_check();
    return enqueue_into(recording_->steps[recorded_step_].sites, number);
  }
  if (!take_check()) return;
  enqueue_into(launching_->sites, launching_->check);
  depend_on(launching_->check);
}

void CudaStream::check_indices(const char* op, const char* argument, const View& indices,
                               int64_t slots) {
  check({.kind = FaultSite::Kind::indices, .op = op, .argument = argument, .limit = slots},
        indices);
}

void CudaStream::check_offsets(const char* op, const View& offsets, int64_t entries) {
  check({.kind = FaultSite::Kind::offsets, .op = op, .argument = "offsets", .limit = entries},
        offsets);
}

void CudaStream::check_targets(const char* op, const View& targets, int64_t classes) {
  check({.kind = FaultSite::Kind::targets, .op = op, .argument = "targets", .limit = classes},
        targets);
}

void CudaStream::check_some_target(const char* op, const int32_t* none) {
  check({.kind = FaultSite::Kind::some_target, .op = op, .argument = "targets", .limit = 1}, none,
        1);
}

void CudaStream::check_finite(const char* what, const View& x, int64_t step) {
  check({.kind = FaultSite::Kind::finite, .op = "fit", .argument = what, .limit = step}, x);
}

}  // namespace ml::ML_CUDA_NAMESPACE
