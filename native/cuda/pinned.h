#pragma once
// A pool of page-locked host memory for copies to and from the device. acquire() waits while too
// much of it is in flight.

#include <condition_variable>
#include <cstddef>
#include <map>
#include <mutex>
#include <vector>

#include "cuda/namespace.h"

namespace ml::ML_CUDA_NAMESPACE {

// bytes at the front of a block, for the state of the checks as of the copy
constexpr size_t kStateBytes = 1024;
// bytes of one copy: enough for the bus's full speed, few enough to overlap with the host's memcpy
constexpr size_t kCopyChunk = (size_t{8} << 20) - kStateBytes;

class PinnedPool {
 public:
  struct Block {
    char* data = nullptr;
    size_t bytes = 0;
  };

  ~PinnedPool();
  Block acquire(size_t bytes);
  // Whether blocks of so many bytes in all are there without waiting, for its only user.
  bool has_room(size_t bytes);
  void release(Block block) noexcept;

 private:
  std::mutex mutex_;
  std::condition_variable released_;
  struct Bucket {
    std::vector<Block> free;  // with room for all, so that release() can't fail
    size_t made = 0;
  };
  std::map<size_t, Bucket> buckets_;  // by size
  size_t in_flight_ = 0;              // bytes
};

}  // namespace ml::ML_CUDA_NAMESPACE
