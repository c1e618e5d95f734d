#pragma once
// An in-order queue of work on a device. Every call returns at once; only wait() blocks.
//
// Tickets number the work in order. A piece of work may come with an Outcome, which says what it
// depends on and is settled when the work has run. A fault found while work runs (an index out of
// range on the device) makes that work void, and all work that depends on it by its Outcome, and
// nothing else: void work does not run. So what it was going to change keeps what it held.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

#include "device/operation_times.h"
#include "device/outcome.h"
#include "device/program.h"
#include "device/work.h"

namespace ml {

class Stream {
 public:
  // Called on any thread when all earlier work has run, and before wait() returns; with the fault
  // if what was read is void.
  using Completion = std::function<void(const FaultPtr&)>;
  // Fills host memory, or returns the fault for which there is nothing to fill it with. May throw
  // Error.
  using Producer = std::function<FaultPtr(void*)>;

  Stream();
  virtual ~Stream() = default;

  // Enqueues a kernel, with its outcome.
  virtual void launch(WorkPtr work) noexcept = 0;
  // Enqueues all of a program, with an outcome for each step.
  virtual void replay(const std::shared_ptr<Program>& program,
                      const std::vector<OutcomePtr>& outcomes);
  // hold(true): work comes one right after the other, and may be enqueued together at hold(false).
  // Whoever waits for work calls that first.
  virtual void hold(bool /*holding*/) noexcept {}

  // Copies host memory into device memory, in order. `source` may be reused when the call returns.
  // `fresh`: no work enqueued so far uses the target.
  virtual void write(void* target, const void* source, size_t bytes, OutcomePtr outcome,
                     bool fresh = false) = 0;

  // Copies device memory into host memory, in order, then calls `done`. `target` must live until
  // then.
  virtual void read(void* target, const void* source, size_t bytes, OutcomePtr outcome,
                    Completion done) = 0;

  // Blocks until all work so far has run.
  virtual void wait() = 0;

  // Calls fill(host memory of `bytes`) on the host, in order, and copies what it wrote to `target`,
  // unless that is the memory it was called with.
  virtual void produce(void* target, size_t bytes, OutcomePtr outcome, Producer fill) = 0;

  // Runs on the stream in order: for releasing memory.
  virtual void always(std::function<void()> action) = 0;

  // Where the stream needs memory of its own and finds none, it calls this, on any thread, with the
  // newest work that has run, and tries again.
  virtual void when_memory_is_short(std::function<void(Ticket last)>) {}
  // Device memory that the work uses beside its tensors, in bytes.
  virtual int64_t scratch() const { return 0; }

  // Host data on its way to the device, in bytes. Where a write would make it more than the limit,
  // it waits a short time for earlier ones, and then is ERR_OUT_OF_MEMORY.
  int64_t staged() const { return staged_.load(std::memory_order_relaxed); }
  void limit_staging(int64_t bytes) { staging_limit_ = bytes; }

  // Blocks until all work so far has run, but no longer than `limit`; returns whether it has.
  bool wait_for(std::chrono::milliseconds limit);

  Ticket submitted() const { return submitted_; }  // the newest work
  // All work up to this one has run or is void.
  Ticket completed() const { return completed_.load(std::memory_order_acquire); }

  // The earliest fault in work up to `last` that was not reported, which it is from here on.
  // nullptr: none. The earliest kMaxUnreported are remembered.
  FaultPtr report_fault(Ticket last);

  // Of what is enqueued, and of its outcomes. A batch and tensors have some of it, also when the
  // stream is gone.
  const std::shared_ptr<WorkMemory>& work_memory() const { return work_memory_; }

  // Times since the last call of this, in no order.
  std::vector<OperationTime> take_times();

 protected:
  // A copy of host data, counted as staged until the last owner is gone.
  std::shared_ptr<const void> stage(const void* source, size_t bytes);

  Ticket next_ticket() { return ++submitted_; }
  // A fault of work that failed itself, which report_fault() reports.
  FaultPtr fail(const Error& error, Ticket ticket) noexcept;
  void found(Ticket ticket, FaultPtr fault) noexcept;
  void complete(Ticket ticket);  // all work up to `ticket` has run
  void wait_for_submitted();     // as wait()

  virtual void collect_times() {}  // adds the times that the device has measured meanwhile

  const std::shared_ptr<WorkMemory> work_memory_ = std::make_shared<WorkMemory>();
  alignas(kCacheLine) OperationTimes operation_times_;

 private:
  void admit(int64_t bytes);
  template <typename Condition>
  bool wait_for(std::unique_lock<std::mutex>& lock, std::chrono::milliseconds limit,
                const Condition& condition);

  static constexpr size_t kMaxUnreported = 256;
  struct Found {
    Ticket ticket;
    FaultPtr fault;
  };

  // Used only by the caller's thread
  alignas(kCacheLine) Ticket submitted_ = 0;
  int64_t staging_limit_ = std::numeric_limits<int64_t>::max();

  alignas(kCacheLine) std::atomic<int64_t> staged_{0};

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable progress_;
  std::atomic<Ticket> completed_{0};
  std::vector<Found> unreported_;
  const FaultPtr no_memory_;  // for a fault that there is no memory for
};

}  // namespace ml
