#include "cuda/pinned.h"

#include <bit>

#include "cuda/check.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

constexpr size_t kSmallest = 256;
constexpr size_t kMostOut = size_t{64} << 20;

}  // namespace

PinnedPool::~PinnedPool() {
  for (auto& [bytes, blocks] : free_)
    for (Block& b : blocks) (void)cudaFreeHost(b.data);
}

PinnedPool::Block PinnedPool::take(size_t bytes) {
  const size_t size = std::bit_ceil(bytes < kSmallest ? kSmallest : bytes);
  std::unique_lock<std::mutex> lock(mutex_);
  given_.wait(lock, [&] { return out_ == 0 || out_ + size <= kMostOut; });
  Block block;
  if (auto& blocks = free_[size]; !blocks.empty()) {
    block = blocks.back();
    blocks.pop_back();
  } else {
    void* data = nullptr;
    check_cuda(cudaHostAlloc(&data, size, cudaHostAllocPortable), "cudaHostAlloc");
    block = {static_cast<char*>(data), size};
  }
  out_ += size;
  return block;
}

void PinnedPool::give(Block block) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    free_[block.bytes].push_back(block);
    out_ -= block.bytes;
  }
  given_.notify_all();
}

}  // namespace ml::ML_CUDA_NAMESPACE
