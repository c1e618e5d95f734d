#include "device/batch.h"

#include <new>
#include <utility>

namespace ml {
namespace {

constexpr size_t kMostKept = 64;  // storages that the work of most calls uses

}  // namespace

Batch::Batch(Device& device)
    : device_(device),
      outer_(device.batch),
      outermost_(outer_ ? outer_->outermost_ : this),
      workspace_(outer_ ? nullptr : std::move(device.batch_workspace)),
      memory_(workspace_.get(), workspace_ ? Device::kBatchWorkspace : 0) {
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
  if (workspace_) device_.batch_workspace = std::move(workspace_);
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
  for (Item* item = first_; item; item = item->next)
    submit_surely(device_, [item] { item->run(*item); });
}

void submit_surely(Device& device, const std::function<void()>& work) {
  constexpr int kAttempts = 10;
  for (int attempt = 1;; ++attempt) {
    try {
      return work();
    } catch (const std::bad_alloc&) {
      if (attempt == kAttempts) throw;
      device.stream().wait();
    }
  }
}

void Batch::keep(Storage& storage) {
  if (storage.in_batch) return;
  kept_.push_back(storage.shared_from_this());
  storage.in_batch = true;
}

void Batch::bypass(Device& device, const std::function<void()>& work) {
  struct Restore {
    Device& device;
    Batch* batch;
    ~Restore() { device.batch = batch; }
  } restore{device, std::exchange(device.batch, nullptr)};
  work();
}

}  // namespace ml
