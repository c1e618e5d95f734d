#include "device/batch.h"

#include <new>
#include <utility>

namespace ml {

Batch::Batch(Device& device) : device_(device), outer_(device.batch) {
  device.batch = this;
  device.open_batch();
}

Batch::~Batch() {
  device_.batch = outer_;
  device_.close_batch();
}

void Batch::commit() {
  if (outer_) return outer_->work_.append(work_);
  struct Together {
    Stream& stream;
    explicit Together(Stream& s) : stream(s) { stream.hold(true); }
    ~Together() { stream.hold(false); }
  } together(device_.stream());
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

void Batch::bypass(Device& device, const std::function<void()>& work) {
  struct Restore {
    Device& device;
    Batch* batch;
    ~Restore() { device.batch = batch; }
  } restore{device, std::exchange(device.batch, nullptr)};
  work();
}

}  // namespace ml
