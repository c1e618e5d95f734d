#include "cuda/pinned.h"

#include <bit>
#include <new>

#include "cuda/check.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

constexpr size_t kMinBlock = 256;                  // bytes
constexpr size_t kMaxInFlight = size_t{64} << 20;  // bytes

}  // namespace

PinnedPool::~PinnedPool() {
  for (auto& [bytes, bucket] : buckets_)
    for (Block& b : bucket.free) (void)cudaFreeHost(b.data);
}

PinnedPool::Block PinnedPool::acquire(size_t bytes) {
  const size_t size = std::bit_ceil(bytes < kMinBlock ? kMinBlock : bytes);
  std::unique_lock<std::mutex> lock(mutex_);
  released_.wait(lock, [&] { return in_flight_ == 0 || in_flight_ + size <= kMaxInFlight; });
  Block block;
  Bucket& bucket = buckets_[size];
  if (!bucket.free.empty()) {
    block = bucket.free.back();
    bucket.free.pop_back();
  } else {
    if (bucket.free.capacity() <= bucket.made) bucket.free.reserve(2 * bucket.made + 1);
    void* data = nullptr;
    const cudaError_t status = cudaHostAlloc(&data, size, cudaHostAllocPortable);
    if (status == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();
      throw std::bad_alloc();
    }
    check_cuda(status, "cudaHostAlloc");
    block = {static_cast<char*>(data), size};
    ++bucket.made;
  }
  in_flight_ += size;
  return block;
}

bool PinnedPool::has_room(size_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  return in_flight_ + bytes <= kMaxInFlight;
}

void PinnedPool::release(Block block) noexcept {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    buckets_.find(block.bytes)->second.free.push_back(block);
    in_flight_ -= block.bytes;
  }
  released_.notify_all();
}

}  // namespace ml::ML_CUDA_NAMESPACE
