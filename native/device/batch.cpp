#include "device/batch.h"

#include <new>

namespace ml {
namespace {

constexpr size_t kMostKept = 64;  // storages that the work of most calls uses

}  // namespace

Batch::Batch(Device& device)
    : device_(device),
      outer_(device.batch),
      outermost_(outer_ ? outer_->outermost_ : this),
      memory_(device.batch_workspace.get(), outer_ ? 0 : Device::kBatchWorkspace) {
  if (!outer_) kept_.reserve(kMostKept);
  device.batch = this;
}

Batch::~Batch() {
  device_.batch = outer_;
  for (Item* item = first_; item;) {
    Item* next = item->next;
    item->destroy(*item);
    item = next;
  }
  for (const auto& storage : kept_) storage->in_batch = false;
}

void Batch::commit() {
  if (outer_) {
    *outer_->last_ = first_;
    if (first_) outer_->last_ = last_;
    first_ = nullptr;
    last_ = &first_;
    return;
  }
  device_.batch = nullptr;
  for (Item* item = first_; item; item = item->next) run_surely(*item);
}

// What the queue of the stream needs for one item of work is little, and comes back as work ends.
void Batch::run_surely(Item& item) {
  constexpr int kAttempts = 10;
  for (int attempt = 1;; ++attempt) {
    try {
      return item.run(item);
    } catch (const std::bad_alloc&) {
      if (attempt == kAttempts) throw;
      device_.stream().wait();
    }
  }
}

void Batch::keep(Storage& storage) {
  if (storage.in_batch) return;
  kept_.push_back(storage.shared_from_this());
  storage.in_batch = true;
}

}  // namespace ml
