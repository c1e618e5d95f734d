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

void Device::end(Storage& storage) noexcept {
  if (open_batches_ > 0)
    storage.next_unused_ = std::exchange(unused_, &storage);
  else
    storage.~Storage();
}

void Device::close_batch() noexcept {
  if (--open_batches_ > 0 || !unused_) return;
  const std::shared_ptr<Device> alive = shared_from_this();
  while (unused_) {
    Storage* storage = std::exchange(unused_, unused_->next_unused_);
    const std::weak_ptr<Storage> memory = storage->weak_from_this();  // until it has ended
    storage->~Storage();
  }
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
