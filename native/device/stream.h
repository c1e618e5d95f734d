#pragma once
// An in-order queue of work on a device. Every call returns at once; only wait() waits.
//
// Tickets number the work in order. A fault found while the work runs (an index out of range on the device) voids that piece of work
// and everything enqueued up to the moment the fault is reported to the caller: none of it runs. So after an error nothing has changed.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "core/error.h"

namespace ml {

using Ticket = uint64_t;

// Time an operation has taken on the stream.
struct OperationTime {
  const char* name;
  int64_t calls;
  double seconds;
};

struct Fault {
  Error error;
  Ticket first;  // the work that failed
};

class Stream {
 public:
  // Called on some other thread when all work before has run, and before wait() returns; with the fault if that work was void.
  using Completion = std::function<void(const std::optional<Fault>&)>;

  virtual ~Stream() = default;

  // Copies host memory into device memory, in order. `source` may be reused when the call returns. `fresh`: nothing that was enqueued
  // so far uses the target.
  virtual void write(void* target, const void* source, size_t bytes, bool fresh = false) = 0;

  // Copies device memory into host memory in order, then calls `done`. `target` must stay until then.
  virtual void read(void* target, const void* source, size_t bytes, Completion done) = 0;

  // Blocks until all work so far has run. Returns the fault, if that work was void.
  virtual std::optional<Fault> wait() = 0;

  // Calls `fill(target)` on the host side of the stream, in order, and makes what it wrote the device's. It may throw Error.
  virtual void produce(void* target, size_t bytes, std::function<void(void*)> fill) = 0;

  // Runs on the stream in order, also when the work around it is void: for giving memory back.
  virtual void always(std::function<void()> action) = 0;

  virtual Ticket submitted() const = 0;  // the number of the newest work
  virtual Ticket completed() const = 0;  // everything up to here has run or is void

  // The caller has been told of the fault that began at `first`: work enqueued from now on runs again.
  virtual void acknowledge(Ticket first) = 0;
  virtual bool faulted() const = 0;  // a fault was found and not acknowledged yet

  // Times since the last call of this, in no order.
  virtual std::vector<OperationTime> take_times() = 0;

  bool voided(Ticket ticket) const {
    for (const Range& r : voided_)
      if (ticket >= r.first && ticket <= r.last) return true;
    return false;
  }

 protected:
  struct Range {
    Ticket first, last;
  };
  std::vector<Range> voided_;  // touched by the caller's thread only
};

}  // namespace ml
