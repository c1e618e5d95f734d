#pragma once
// The memory of recorded work. Tensors that are made while work is recorded have their blocks from
// here, and what they free is used again by later ones, in the order of the work. Replays use the
// same addresses, so nothing else gets a block before close().

#include <map>
#include <vector>

#include "device/allocator.h"

namespace ml {

class Pool {
 public:
  explicit Pool(Allocator& allocator) : allocator_(allocator) {}
  ~Pool() { close(); }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  Block allocate(int64_t bytes);
  void free(const Block& block) noexcept;
  // Gives the blocks back to the allocator: now, or when their tensors are gone.
  void close() noexcept;
  // At the end of the device.
  void release_idle() noexcept;

 private:
  // `idle` has capacity for all blocks of the size, so that free() can't fail.
  struct Bucket {
    std::vector<Block> idle;
    size_t blocks = 0;
  };
  Allocator& allocator_;
  std::map<int64_t, Bucket> buckets_;  // by size
  bool closed_ = false;
};

}  // namespace ml
