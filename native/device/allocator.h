#pragma once
// A caching allocator in stream order: a freed block may be reused at once, since its next use is
// enqueued behind its last. One device, one calling thread, release_idle() aside.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <mutex>
#include <vector>

#include "device/stream.h"

namespace ml {

struct MemoryStats {
  int64_t allocated = 0;  // in tensors, bytes as rounded up
  int64_t reserved = 0;   // allocated from the system, cached blocks included
  int64_t peak = 0;       // max of `allocated` so far
  int64_t total = 0;      // what the device has
};

// How a backend allocates and releases memory.
struct MemorySource {
  std::function<void*(int64_t bytes)> allocate;  // nullptr: none left
  std::function<void(void* data, int64_t bytes)> release;
  int64_t total = 0;  // bytes of the device
  // Bytes that this process holds, of tensors and of all else, where they share the memory.
  std::function<int64_t()> held{};
  // Larger blocks are released when they are freed. A GPU keeps them: its cudaFree waits for all
  // work. What is cached is released when a new block would not fit.
  int64_t max_cached = std::numeric_limits<int64_t>::max();
  // How long a call that finds no memory waits for what enqueued work is to release: the event loop
  // is blocked meanwhile.
  std::chrono::milliseconds longest_wait{50};
  // release_idle() may be called on any thread.
  bool threads = false;
  // Blocks have the requested size and are never reused: for a device that checks their bounds.
  bool exact = false;
};

struct Block {
  void* data = nullptr;
  int64_t bytes = 0;
  Ticket last_use = 0;  // the newest work, when the block was freed, that may use it
};

class Allocator {
 public:
  Allocator(MemorySource source, Stream& stream);
  ~Allocator() { release_cached(); }
  Block allocate(int64_t bytes);
  int64_t block_size(int64_t bytes) const;  // of the block that such an allocation gives
  void free(Block block) noexcept;
  // At the end, when the stream is gone: the memory of a block, and of all that are cached.
  void release(const Block& block) noexcept { source_.release(block.data, block.bytes); }
  void release_cached() noexcept;
  // Releases the cached blocks that work after `last` has not used; all work up to it has run.
  void release_idle(Ticket last) noexcept;
  MemoryStats stats() const {
    const Lock lock = hold();
    return stats_;
  }

 private:
  using Lock = std::unique_lock<std::mutex>;
  Lock hold() const { return source_.threads ? Lock(mutex_) : Lock(); }
  bool has_room(int64_t size) const;
  // The blocks of one size. There is room in `idle` for all of them, so that free() can't fail.
  struct Bucket {
    std::vector<Block> idle;
    size_t blocks = 0;  // in tensors and idle
  };
  bool allocate_block(int64_t size, Block& block);
  void add_block(int64_t size, Bucket& bucket, Block& block, Lock& lock);
  Error none_left(int64_t bytes) const;
  void release_used_up_to(Ticket last) noexcept;
  void release_cached_in_order();
  bool release_in_order(const Block& block) noexcept;

  MemorySource source_;
  Stream& stream_;
  mutable std::mutex mutex_;  // guards what follows, where there are threads
  MemoryStats stats_;
  std::map<int64_t, Bucket> buckets_;  // by size
  std::atomic<int64_t> in_order_{0};   // bytes that enqueued work is to release
};

}  // namespace ml
