#include "device/batch.h"

#include <iterator>
#include <new>

namespace ml {
namespace {

constexpr int kAttempts = 10;

template <class T>
void append(std::vector<T>& to, std::vector<T>& from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

}  // namespace

void submit_surely(Device& device, const std::function<void()>& work) {
  for (int attempt = 1;; ++attempt) {
    try {
      return work();
    } catch (const std::bad_alloc&) {
      if (attempt == kAttempts) throw;
      device.stream().wait();
    }
  }
}

Batch::Batch(Device& device) : device_(device), outer_(device.batch) { device.batch = this; }

Batch::~Batch() { device_.batch = outer_; }

void Batch::commit() {
  if (outer_) {
    outer_->kept_.reserve(outer_->kept_.size() + kept_.size());
    append(outer_->work_, work_);
    append(outer_->kept_, kept_);
    return;
  }
  device_.batch = nullptr;
  for (const auto& work : work_) submit_surely(device_, work);
}

void Batch::submit(Device& device, std::function<void()> work) {
  if (!device.batch) return work();
  device.batch->work_.push_back(std::move(work));
}

void Batch::keep(Device& device, const View& view) {
  if (device.batch && view.storage) device.batch->kept_.push_back(view.storage->shared_from_this());
}

}  // namespace ml
