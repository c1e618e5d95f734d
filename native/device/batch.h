#pragma once
// All the work of a call that changes several tensors. While a batch is open, work of its device is
// kept here instead of being enqueued: commit() enqueues all of it, once every argument has been
// checked and all memory is there. A batch that ends without commit() drops its work, so nothing
// has changed. Batches nest: the outermost one enqueues.

#include <functional>
#include <memory>
#include <vector>

#include "device/device.h"

namespace ml {

// Runs `work`, which enqueues what can't be left out: again where there was no memory for it, once
// all earlier work has run. What the queue of the stream needs for one item is little, and comes
// back as work ends. `work` must change nothing where it throws std::bad_alloc.
void submit_surely(Device& device, const std::function<void()>& work);

class Batch {
 public:
  explicit Batch(Device& device);
  ~Batch();
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  void commit();

  // Runs `work` on the caller's thread: now, or with an open batch at its commit. It may be run
  // again after std::bad_alloc, and must then not have changed anything.
  static void submit(Device& device, std::function<void()> work);
  // Memory that kept work uses lives until it is enqueued.
  static void keep(Device& device, const View& view);

 private:
  Device& device_;
  Batch* const outer_;
  std::vector<std::function<void()>> work_;
  std::vector<std::shared_ptr<Storage>> kept_;
};

}  // namespace ml
