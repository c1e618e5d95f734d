#include "device/allocator.h"

#include <algorithm>
#include <bit>
#include <string>

namespace ml {
namespace {

constexpr int64_t kMinBlock = 256;
constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kMinUncached = int64_t{64} << 20;  // tables: released when freed

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

Allocator::~Allocator() {
  for (auto& [bytes, blocks] : cached_)
    for (Block& b : blocks) source_.release(b.data, bytes);
}

// A new block from the source; false if the device has no memory left for it.
bool Allocator::allocate_block(int64_t size, Block& block) {
  void* data = stats_.reserved + size <= stats_.total ? source_.allocate(size) : nullptr;
  block = {data, size, 0};
  return data != nullptr;
}

Block Allocator::allocate(int64_t bytes) {
  const int64_t size = source_.exact ? std::max<int64_t>(bytes, 1) : rounded(bytes);
  Block block;
  if (auto it = cached_.find(size); it != cached_.end() && !it->second.empty()) {
    block = it->second.back();
    it->second.pop_back();
  } else {
    if (!allocate_block(size, block)) {
      release_idle();
      if (!allocate_block(size, block) && !cached_.empty()) {
        stream_.wait();
        release_idle();
        allocate_block(size, block);
      }
    }
    if (!block.data)
      throw Error(
          Code::out_of_memory,
          "device memory: wanted " + std::to_string(bytes) + " bytes, " +
              std::to_string(stats_.allocated) + " are in tensors of " +
              std::to_string(stats_.total) +
              " in all.\n  Dispose tensors that are no longer needed, or use a smaller table.");
    stats_.reserved += size;
  }
  stats_.allocated += size;
  stats_.peak = std::max(stats_.peak, stats_.allocated);
  return block;
}

void Allocator::free(Block block) {
  if (deferred_) return deferred_->push_back(block);
  stats_.allocated -= block.bytes;
  block.last_use = stream_.submitted();
  if (source_.exact || block.bytes >= kMinUncached) {
    release_in_order(block);
  } else {
    cached_[block.bytes].push_back(block);
  }
}

// Releases every cached block that no enqueued work can still use.
void Allocator::release_idle() {
  const Ticket completed = stream_.completed();
  for (auto& [bytes, blocks] : cached_) {
    auto idle = std::partition(blocks.begin(), blocks.end(),
                               [&](const Block& b) { return b.last_use > completed; });
    for (auto it = idle; it != blocks.end(); ++it) {
      source_.release(it->data, bytes);
      stats_.reserved -= bytes;
    }
    blocks.erase(idle, blocks.end());
  }
  std::erase_if(cached_, [](const auto& entry) { return entry.second.empty(); });
}

void Allocator::release_in_order(const Block& block) {
  stats_.reserved -= block.bytes;
  stream_.always([release = source_.release, block] { release(block.data, block.bytes); });
}

}  // namespace ml
