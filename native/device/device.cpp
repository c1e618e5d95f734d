#include "device/device.h"

#include <exception>

#include "device/recording.h"

namespace ml {

void Device::end() noexcept {
  closed_ = true;
  if (ended()) return;
  stream_.reset();  // runs what is enqueued, and joins its threads
  for (Storage* s = storages_; s; s = s->next_) s->abandon();
  for (const auto& weak : pools_)
    if (const auto pool = weak.lock()) pool->release_idle();
  allocator_.release_cached();
}

std::shared_ptr<Pool> Device::new_pool() {
  std::erase_if(pools_, [](const auto& weak) { return weak.expired(); });
  auto pool = std::make_shared<Pool>(allocator_);
  pools_.push_back(pool);
  return pool;
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

std::shared_ptr<Pool> Storage::open_pool() const {
  return device_->recording ? device_->recording->pool() : nullptr;
}

Block Storage::allocate(int64_t bytes) const {
  return pool_ ? pool_->allocate(bytes) : device_->allocator().allocate(bytes);
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
    if (pool_)
      pool_->free(block_);
    else
      device_->allocator_.free(block_);
    return;
  }
  try {
    device_->stream_->always(std::move(release_));
  } catch (const std::exception&) {  // no memory: the address range of the file stays mapped
  }
}

}  // namespace ml
