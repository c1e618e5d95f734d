#include "device/pool.h"

namespace ml {

Block Pool::allocate(int64_t bytes) {
  Bucket& bucket = buckets_[allocator_.block_size(bytes)];
  if (!bucket.idle.empty()) {
    const Block block = bucket.idle.back();
    bucket.idle.pop_back();
    return block;
  }
  bucket.idle.reserve(bucket.blocks + 1);
  const Block block = allocator_.allocate(bytes);
  ++bucket.blocks;
  return block;
}

void Pool::free(const Block& block) noexcept {
  if (closed_) return allocator_.free(block);
  buckets_.find(block.bytes)->second.idle.push_back(block);
}

void Pool::close() noexcept {
  closed_ = true;
  for (auto& [bytes, bucket] : buckets_)
    for (const Block& block : bucket.idle) allocator_.free(block);
  buckets_.clear();
}

void Pool::release_idle() noexcept {
  for (auto& [bytes, bucket] : buckets_)
    for (const Block& block : bucket.idle) allocator_.release(block);
  buckets_.clear();
  closed_ = true;
}

}  // namespace ml
