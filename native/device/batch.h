#pragma once
// All the work of a call that changes several tensors. While a batch is open, work of its device is
// kept here instead of being enqueued: commit() enqueues all of it, once every argument has been
// checked and all memory is there. A batch that ends without commit() drops its work, so nothing
// has changed. Batches nest: the outermost one enqueues.

#include <cstddef>
#include <functional>
#include <memory>
#include <memory_resource>
#include <type_traits>
#include <utility>
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
  template <class Work>
  static void submit(Device& device, Work&& work) {
    if (device.batch)
      device.batch->add(std::forward<Work>(work));
    else
      work();
  }
  // Runs `work` now, batch or not: what fills memory that nothing else uses yet, and that stays
  // whatever becomes of the batch.
  static void bypass(Device& device, const std::function<void()>& work);
  // Memory that kept work uses lives until it is enqueued.
  static void keep(Device& device, const View& view) {
    if (device.batch && view.storage) device.batch->outermost_->keep(*view.storage);
  }

 private:
  // An item of work, in the outermost batch's memory.
  struct Item {
    Item* next = nullptr;
    void (*run)(Item&) = nullptr;
    void (*destroy)(Item&) = nullptr;
  };
  template <class Work>
  struct ItemOf : Item {
    explicit ItemOf(Work&& w) : work(std::move(w)) {}
    explicit ItemOf(const Work& w) : work(w) {}
    Work work;
  };

  template <class Work>
  void add(Work&& work) {
    using Type = ItemOf<std::remove_cvref_t<Work>>;
    void* memory = outermost_->memory_.allocate(sizeof(Type), alignof(Type));
    auto* item = new (memory) Type(std::forward<Work>(work));
    item->run = [](Item& i) { static_cast<Type&>(i).work(); };
    item->destroy = [](Item& i) { static_cast<Type&>(i).~Type(); };
    *last_ = item;
    last_ = &item->next;
  }
  void keep(Storage& storage);

  Device& device_;
  Batch* const outer_;
  Batch* const outermost_;
  Item* first_ = nullptr;
  Item** last_ = &first_;

  // Of the outermost batch: first the device's workspace, then more of the heap.
  std::unique_ptr<std::byte[]> workspace_;
  std::pmr::monotonic_buffer_resource memory_;
  std::pmr::vector<std::shared_ptr<Storage>> kept_{&memory_};  // each once
};

}  // namespace ml
