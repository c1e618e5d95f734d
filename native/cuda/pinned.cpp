#include "cuda/pinned.h"

#include <bit>

#include "cuda/check.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

constexpr size_t kMinBlock = 256;                  // bytes
constexpr size_t kMaxInFlight = size_t{64} << 20;  // bytes

}  // namespace

PinnedPool::~PinnedPool() {
  for (auto& [bytes, blocks] : free_)
    for (Block& b : blocks) (void)cudaFreeHost(b.data);
}

PinnedPool::Block PinnedPool::acquire(size_t bytes) {
  const size_t size = std::bit_ceil(bytes < kMinBlock ? kMinBlock : bytes);
  std::unique_lock<std::mutex> lock(mutex_);
  released_.wait(lock, [&] { return in_flight_ == 0 || in_flight_ + size <= kMaxInFlight; });
  Block block;
  if (auto& blocks = free_[size]; !blocks.empty()) {
    block = blocks.back();
    blocks.pop_back();
  } else {
    void* data = nullptr;
    check_cuda(cudaHostAlloc(&data, size, cudaHostAllocPortable), "cudaHostAlloc");
    block = {static_cast<char*>(data), size};
  }
  in_flight_ += size;
  return block;
}

void PinnedPool::release(Block block) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    free_[block.bytes].push_back(block);
    in_flight_ -= block.bytes;
  }
  released_.notify_all();
}

}  // namespace ml::ML_CUDA_NAMESPACE
