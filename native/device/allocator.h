#pragma once
// A caching allocator in stream order: a freed block may be handed out again at once, since
// whatever uses it next is enqueued behind whatever used it last. One device, one calling thread.

#include <cstdint>
#include <functional>
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
  std::function<void*(int64_t bytes)> take;  // nullptr: none left
  std::function<void(void* data, int64_t bytes)> give;
  int64_t total = 0;  // bytes of the device
  // every block is of the size asked for and used once: for a device that watches the bounds of
  // blocks
  bool exact = false;
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
  // While a list is given, freed blocks go there instead: recorded work still uses them. They are
  // freed later, by hand.
  void keep_freed(std::vector<Block>* list) { kept_ = list; }
  const MemoryStats& stats() const { return stats_; }

 private:
  bool take(int64_t size, Block& block);
  void release_quiet();
  void give_in_order(const Block& block);

  MemorySource source_;
  Stream& stream_;
  MemoryStats stats_;
  std::map<int64_t, std::vector<Block>> cached_;  // by size
  std::vector<Block>* kept_ = nullptr;
};

}  // namespace ml
