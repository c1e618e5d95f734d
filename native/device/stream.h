#pragma once
// An in-order queue of work on a device. Every call returns at once; only wait() blocks.
//
// Tickets number the work in order. A fault found while work runs (an index out of range on the
// device) voids that work and everything enqueued until the fault is reported to the caller: none
// of it runs. So after an error nothing has changed.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "core/error.h"
#include "device/operation_times.h"

namespace ml {

using Ticket = uint64_t;

struct Fault {
  Error error;
  Ticket first;  // the work that failed
};

class Stream {
 public:
  // Called on any thread when all earlier work has run, and before wait() returns; with the fault
  // if that work was void.
  using Completion = std::function<void(const std::optional<Fault>&)>;

  virtual ~Stream() = default;

  // Copies host memory into device memory, in order. `source` may be reused when the call returns.
  // `fresh`: no work enqueued so far uses the target.
  virtual void write(void* target, const void* source, size_t bytes, bool fresh = false) = 0;

  // Copies device memory into host memory, in order, then calls `done`. `target` must live until
  // then.
  virtual void read(void* target, const void* source, size_t bytes, Completion done) = 0;

  // Blocks until all work so far has run. Returns the fault, if that work was void.
  virtual std::optional<Fault> wait() = 0;

  // Calls fill(host memory of `bytes`) on the host, in order, and copies what it wrote to `target`,
  // unless that is the memory it was called with. It may throw Error.
  virtual void produce(void* target, size_t bytes, std::function<void(void*)> fill) = 0;

  // Runs on the stream in order, also when the work around it is void: for releasing memory.
  virtual void always(std::function<void()> action) = 0;

  // Blocks until all work so far has run, but no longer than `limit`; returns whether it has.
  bool wait_for(std::chrono::milliseconds limit);

  Ticket submitted() const { return submitted_; }  // the newest work
  // All work up to this one has run or is void.
  Ticket completed() const { return completed_.load(std::memory_order_acquire); }

  // The caller has been told of the fault that began at `first`: work enqueued from now on runs
  // again.
  void acknowledge(Ticket first);
  bool faulted() const;  // a fault was found and not acknowledged yet
  bool voided(Ticket ticket) const;

  // Times since the last call of this, in no order.
  std::vector<OperationTime> take_times();

 protected:
  Ticket next_ticket() { return ++submitted_; }
  // All work up to `ticket` has run, or is void because of the fault.
  void complete(Ticket ticket, const std::optional<Fault>& fault);
  std::optional<Fault> wait_for_submitted();  // as wait()

  virtual void resume() = 0;       // enqueues the end of the fault: work after it runs again
  virtual void collect_times() {}  // adds the times that the device has measured meanwhile

  OperationTimes operation_times_;

 private:
  struct Range {
    Ticket first, last;
  };
  bool unreported() const { return found_ && found_->first > acknowledged_; }

  // Used only by the caller's thread
  Ticket submitted_ = 0;
  std::vector<Range> voided_;

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable progress_;
  std::atomic<Ticket> completed_{0};
  std::optional<Fault> found_;  // the newest
  Ticket acknowledged_ = 0;     // first work of the newest fault that the caller knows of
};

}  // namespace ml
