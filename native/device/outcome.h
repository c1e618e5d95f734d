#pragma once
// What becomes of a piece of work. It is pending until the stream knows; then it has passed, or it
// is void: it failed itself, or depends on work that is void. Void work changes nothing.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "core/error.h"

namespace ml {

using Ticket = uint64_t;  // the number of a piece of work on its stream

// An error found while work ran.
class Fault {
 public:
  Fault(Error error, Ticket first) : error(std::move(error)), first(first) {}
  const Error error;
  const Ticket first;  // the work that failed

  // Whether the program has been told; report() says whether it had not been before.
  bool reported() const { return reported_.load(std::memory_order_relaxed); }
  bool report() const { return !reported_.exchange(true, std::memory_order_relaxed); }

 private:
  mutable std::atomic<bool> reported_{false};
};
using FaultPtr = std::shared_ptr<const Fault>;  // nullptr: none

class Outcome;
using OutcomePtr = std::shared_ptr<Outcome>;

// Work that other work depends on. Most work depends on little, which takes no memory of its own.
class Needs {
 public:
  void add(const OutcomePtr& outcome) {
    if (count_ > 0 && last() == outcome) return;
    if (count_ < first_.size())
      first_[count_] = outcome;
    else
      more_.push_back(outcome);
    ++count_;
  }
  template <class F>
  void each(const F& f) const {
    for (size_t i = 0; i < std::min(count_, first_.size()); ++i) f(first_[i]);
    for (const OutcomePtr& outcome : more_) f(outcome);
  }

 private:
  const OutcomePtr& last() const { return more_.empty() ? first_[count_ - 1] : more_.back(); }

  size_t count_ = 0;
  std::array<OutcomePtr, 3> first_;
  std::vector<OutcomePtr> more_;
};

class Outcome {
 public:
  explicit Outcome(Needs needs = {}) : needs_(std::move(needs)) {}

  // On any thread
  bool known() const { return state_.load(std::memory_order_acquire) != kPending; }
  bool passed() const { return state_.load(std::memory_order_acquire) == kPassed; }
  // nullptr unless the work is void
  FaultPtr fault() const {
    return state_.load(std::memory_order_acquire) == kVoid ? fault_ : nullptr;
  }

  // The rest is the stream's, one thread at a time.

  const Needs& needs() const { return needs_; }
  Needs& needs() { return needs_; }  // the caller's, before the work is enqueued
  // Why this work is void by what it depends on: the earliest fault of those that are known.
  FaultPtr inherited() const {
    FaultPtr earliest;
    needs_.each([&](const OutcomePtr& need) {
      FaultPtr fault = need->fault();
      if (fault && (!earliest || fault->first < earliest->first)) earliest = std::move(fault);
    });
    return earliest;
  }
  // Settles what is pending: void with a fault, passed without.
  void settle(FaultPtr fault) {
    if (known()) return;
    needs_ = {};
    fault_ = std::move(fault);
    state_.store(fault_ ? kVoid : kPassed, std::memory_order_release);
  }
  // CUDA: bits of the checks on the device, not known yet, that this work depends on.
  uint32_t checks = 0;

 private:
  enum State : uint8_t { kPending, kPassed, kVoid };
  std::atomic<State> state_{kPending};
  FaultPtr fault_;
  Needs needs_;
};

}  // namespace ml
