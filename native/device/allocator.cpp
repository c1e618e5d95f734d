#include "device/allocator.h"

#include <algorithm>
#include <bit>
#include <exception>
#include <string>

#include "core/failure.h"

namespace ml {
namespace {

constexpr int64_t kMinBlock = 256;
constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr std::chrono::milliseconds kWait{50};  // before the source is asked again

// Eight sizes per power of two, so at most an eighth is wasted; whole huge pages for large blocks.
int64_t rounded(int64_t bytes) {
  if (bytes <= kMinBlock) return kMinBlock;
  const int64_t step =
      bytes >= kHugePage * 4
          ? kHugePage
          : static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(bytes - 1))) / 8;
  return (bytes + step - 1) / step * step;
}

}  // namespace

Allocator::Allocator(MemorySource source, Stream& stream)
    : source_(std::move(source)), stream_(stream) {
  stats_.total = source_.total;
}

void Allocator::release_cached() noexcept {
  const Lock lock = hold();
  for (auto& [bytes, bucket] : buckets_)
    for (const Block& b : bucket.idle) release(b);
  buckets_.clear();
}

bool Allocator::has_room(int64_t size) const {
  const bool counts = source_.held && size >= kHugePage;  // else asking would cost more
  const int64_t held = std::max(stats_.reserved, counts ? source_.held() : 0);
  return size <= stats_.total && held <= stats_.total - size;
}

// A new block from the source; false if the device has no memory left for it.
bool Allocator::allocate_block(int64_t size, Block& block) {
  void* data = has_room(size) ? source_.allocate(size) : nullptr;
  block = {data, size, 0};
  return data != nullptr;
}

Error Allocator::none_left(int64_t bytes) const {
  const bool busy = stream_.completed() != stream_.submitted();
  return Error(
      Code::out_of_memory,
      "device memory: wanted " + std::to_string(bytes) + " bytes, " +
          std::to_string(stats_.allocated) + " are in tensors of " + std::to_string(stats_.total) +
          " in all.\n  Dispose tensors that are no longer needed, or use a smaller table." +
          (busy ? "\n  What enqueued work still uses is free after `await device.synchronize()`."
                : ""));
}

// Adds a block to a bucket that has none to spare.
void Allocator::add_block(int64_t size, Bucket& bucket, Block& block, Lock& lock) {
  if (bucket.idle.capacity() < bucket.blocks)
    bucket.idle.reserve(std::max(bucket.blocks, bucket.idle.capacity() * 2));
  if (allocate_block(size, block)) return;
  release_used_up_to(stream_.completed());
  if (allocate_block(size, block) || stream_.completed() == stream_.submitted()) return;
  // Work that is enqueued still uses the memory.
  release_cached_in_order();
  if (allocate_block(size, block)) return;
  const auto end = std::chrono::steady_clock::now() + source_.longest_wait;
  do {
    // Not while another thread waits for the lock: the work may need its memory.
    if (lock) lock.unlock();
    stream_.wait_for(kWait);
    lock = hold();
  } while (!allocate_block(size, block) && in_order_ > 0 && std::chrono::steady_clock::now() < end);
}

int64_t Allocator::block_size(int64_t bytes) const {
  return source_.exact ? std::max<int64_t>(bytes, 1) : rounded(bytes);
}

Block Allocator::allocate(int64_t bytes) {
  const int64_t size = block_size(bytes);
  Lock lock = hold();
  if (size > stats_.total || fails(Failure::allocation)) throw none_left(bytes);
  Bucket& bucket = buckets_[size];
  Block block;
  if (!bucket.idle.empty()) {
    block = bucket.idle.back();
    bucket.idle.pop_back();
  } else {
    ++bucket.blocks;
    try {
      add_block(size, bucket, block, lock);
    } catch (const std::exception&) {
      if (--bucket.blocks == 0) buckets_.erase(size);
      throw;
    }
    if (!block.data) {
      if (--bucket.blocks == 0) buckets_.erase(size);
      throw none_left(bytes);
    }
    stats_.reserved += size;
  }
  stats_.allocated += size;
  stats_.peak = std::max(stats_.peak, stats_.allocated);
  return block;
}

void Allocator::free(Block block) noexcept {
  const Lock lock = hold();
  stats_.allocated -= block.bytes;
  block.last_use = stream_.submitted();
  const auto bucket = buckets_.find(block.bytes);
  const bool keep = !source_.exact && block.bytes <= source_.max_cached;
  if (keep || !release_in_order(block)) return bucket->second.idle.push_back(block);
  if (--bucket->second.blocks == 0) buckets_.erase(bucket);
}

void Allocator::release_idle(Ticket last) noexcept {
  const Lock lock = hold();
  release_used_up_to(last);
}

void Allocator::release_used_up_to(Ticket last) noexcept {
  for (auto& [bytes, bucket] : buckets_) {
    auto& blocks = bucket.idle;
    const auto idle = std::partition(blocks.begin(), blocks.end(),
                                     [&](const Block& b) { return b.last_use > last; });
    for (auto it = idle; it != blocks.end(); ++it) {
      release(*it);
      stats_.reserved -= bytes;
      --bucket.blocks;
    }
    blocks.erase(idle, blocks.end());
  }
  std::erase_if(buckets_, [](const auto& entry) { return entry.second.blocks == 0; });
}

void Allocator::release_cached_in_order() {
  for (auto& [bytes, bucket] : buckets_)
    while (!bucket.idle.empty() && release_in_order(bucket.idle.back())) {
      bucket.idle.pop_back();
      --bucket.blocks;
    }
  std::erase_if(buckets_, [](const auto& entry) { return entry.second.blocks == 0; });
}

// False, and nothing is done, where there is no memory to enqueue it.
bool Allocator::release_in_order(const Block& block) noexcept {
  try {
    stream_.always([this, block] {
      release(block);
      in_order_ -= block.bytes;
    });
  } catch (const std::exception&) {
    return false;
  }
  in_order_ += block.bytes;
  stats_.reserved -= block.bytes;
  return true;
}

}  // namespace ml
