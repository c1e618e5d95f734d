#pragma once
// Page-locked host memory for copies to and from the device, kept for reuse. take() waits while too
// much of it is under way.

#include <condition_variable>
#include <cstddef>
#include <map>
#include <mutex>
#include <vector>

#include "cuda/namespace.h"

namespace ml::ML_CUDA_NAMESPACE {

// bytes at the front of a block: the fault record as it was when the copy had been made
constexpr size_t kRecordRoom = 256;
// of one copy: long for the bus, short enough to overlap with the host's own
constexpr size_t kCopyPiece = (size_t{8} << 20) - kRecordRoom;

class PinnedPool {
 public:
  struct Block {
    char* data = nullptr;
    size_t bytes = 0;
  };

  ~PinnedPool();
  Block take(size_t bytes);
  void give(Block block);

 private:
  std::mutex mutex_;
  std::condition_variable given_;
  std::map<size_t, std::vector<Block>> free_;  // by size
  size_t out_ = 0;                             // bytes under way
};

}  // namespace ml::ML_CUDA_NAMESPACE
