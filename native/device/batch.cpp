#include "device/batch.h"

#include <new>
#include <utility>

namespace ml {

Batch::Batch(Device& device)
    : device_(device), outer_(device.batch), outermost_(outer_ ? outer_->outermost_ : this) {
  device.batch = this;
}

Batch::~Batch() {
  device_.batch = outer_;
  while (kept_) {
    Storage* storage = std::exchange(kept_, kept_->next_kept);
    const std::shared_ptr<Storage> last_use = std::move(storage->kept);
  }
}

void Batch::commit() {
  if (outer_) return outer_->work_.append(work_);
  device_.batch = nullptr;
  while (!work_.empty()) {
    WorkPtr work = work_.pop();
    submit_surely(device_, [&work] { work->submit(work); });
  }
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

void Batch::keep_first(Storage& storage) noexcept {
  storage.kept = storage.shared_from_this();
  storage.next_kept = std::exchange(kept_, &storage);
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
