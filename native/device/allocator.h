#pragma once
// A caching allocator in stream order: a freed block may be handed out again at once, since whatever uses it next is enqueued
// behind whatever used it last. One device, one calling thread.

#include <cstdint>
#include <map>
#include <vector>

#include "device/stream.h"

namespace ml {

struct MemoryStats {
  int64_t allocated = 0;  // in tensors, bytes as rounded up
  int64_t reserved = 0;   // taken from the system, cached blocks included
  int64_t peak = 0;       // greatest `allocated` so far
  int64_t total = 0;      // what the device has
};

// How a backend takes and gives back memory.
struct MemorySource {
  void* (*take)(int64_t bytes);  // nullptr: none left
  void (*give)(void* data, int64_t bytes);
  int64_t (*total)();
};

struct Block {
  void* data = nullptr;
  int64_t bytes = 0;
  Ticket quiet_after = 0;  // once the stream is past this, no earlier work uses the block
};

class Allocator {
 public:
  Allocator(MemorySource source, Stream& stream);
  ~Allocator();  // the stream must be idle
  Block allocate(int64_t bytes);
  void free(Block block);
  const MemoryStats& stats() const { return stats_; }

 private:
  void release_quiet();
  void give_in_order(const Block& block);

  MemorySource source_;
  Stream& stream_;
  MemoryStats stats_;
  std::map<int64_t, std::vector<Block>> cached_;  // by size
};

}  // namespace ml
