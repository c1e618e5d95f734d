#pragma once
// All the work of a call that changes several tensors. While a batch is open, work of its device is
// kept here instead of being enqueued: commit() enqueues all of it, once every argument has been
// checked and all memory is there. A batch that ends without commit() drops its work, so nothing
// has changed. Batches nest: the outermost one enqueues.

#include <functional>
#include <type_traits>
#include <utility>

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

  // Runs `action` on the caller's thread: now, or with an open batch at its commit. It may be run
  // again after std::bad_alloc, and must then not have changed anything.
  template <class F>
  static void submit(Device& device, F&& action) {
    static_assert(sizeof(Action<F>) <= WorkMemory::kLargest);
    if (device.batch)
      device.batch->add(WorkPtr(new (device.work_memory()) Action<F>(std::forward<F>(action))));
    else
      action();
  }
  // Runs `work` now, batch or not: what fills memory that nothing else uses yet, and that stays
  // whatever becomes of the batch.
  static void bypass(Device& device, const std::function<void()>& work);

  void add(WorkPtr work) noexcept { work_.push(std::move(work)); }

 private:
  template <class F>
  class Action final : public Work {
   public:
    explicit Action(F&& action) : action_(std::forward<F>(action)) {}
    void submit(WorkPtr&) override { action_(); }

   private:
    std::remove_cvref_t<F> action_;
  };

  Device& device_;
  Batch* const outer_;
  WorkList work_;
};

}  // namespace ml
