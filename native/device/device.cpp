#include "device/device.h"

#include <exception>

namespace ml {

void Device::end() noexcept {
  closed_ = true;
  if (ended()) return;
  stream_.reset();  // runs what is enqueued, and joins its threads
  for (Storage* s = storages_; s; s = s->next_) s->abandon();
  allocator_.release_cached();
}

void Storage::link() {
  next_ = device_->storages_;
  if (next_) next_->previous_ = this;
  device_->storages_ = this;
}

void Storage::abandon() noexcept {
  if (release_)
    release_();
  else
    device_->allocator_.release(block_);
}

Storage::~Storage() {
  (previous_ ? previous_->next_ : device_->storages_) = next_;
  if (next_) next_->previous_ = previous_;
  if (!device_->stream_) return;  // abandoned
  if (!release_) {
    device_->allocator_.free(block_);
    return;
  }
  try {
    device_->stream_->always(std::move(release_));
  } catch (const std::exception&) {  // no memory: the address range of the file stays mapped
  }
}

}  // namespace ml
