#pragma once
// A bump allocator of device memory for the operation that is being launched; the next operation
// reuses all of it, in the order of the stream. Chunks are freed at the end. On the emulator every
// allocation is a chunk of its own, so that it knows the bounds of each.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "cuda/namespace.h"

namespace ml::ML_CUDA_NAMESPACE {

// What the scratch memory of a stream, and that of its graphs, has in common.
struct ScratchUse {
  std::atomic<int64_t> bytes{0};      // allocated
  std::function<void()> make_room{};  // where there is no memory for more
};

class Scratch {
 public:
  explicit Scratch(std::shared_ptr<ScratchUse> use) : use_(std::move(use)) {}
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  void* allocate(int64_t bytes);
  void reset();  // kernels launched from here on may overwrite earlier allocations
  // reset() does nothing from here on: the allocations belong to a recorded graph.
  void keep() { kept_ = true; }

 private:
  struct Chunk {
    char* data;
    int64_t bytes;
  };
  char* new_chunk(int64_t bytes);
  void free_chunks() noexcept;

  const std::shared_ptr<ScratchUse> use_;
  std::vector<Chunk> chunks_;
  size_t chunk_ = 0;  // the one in use
  int64_t used_ = 0;  // of it
  bool kept_ = false;
};

}  // namespace ml::ML_CUDA_NAMESPACE
