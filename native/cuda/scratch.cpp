#include "cuda/scratch.h"

#include <algorithm>

#include "cuda/check.h"
#include "cuda/exact_blocks.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

constexpr int64_t kAlignment = 256;              // bytes
constexpr int64_t kMinChunk = int64_t{8} << 20;  // bytes

}  // namespace

Scratch::~Scratch() { free_chunks(); }

void Scratch::free_chunks() noexcept {
  for (const Chunk& c : chunks_) {
    (void)cudaFree(c.data);
    use_->bytes -= c.bytes;
  }
  chunks_.clear();
}

char* Scratch::new_chunk(int64_t bytes) {
  void* data = nullptr;
  cudaError_t status = cudaMalloc(&data, static_cast<size_t>(bytes));
  if (status == cudaErrorMemoryAllocation && use_->make_room) {
    (void)cudaGetLastError();
    use_->make_room();
    status = cudaMalloc(&data, static_cast<size_t>(bytes));
  }
  check_cuda(status, "cudaMalloc");
  use_->bytes += bytes;
  return static_cast<char*>(data);
}

void* Scratch::allocate(int64_t bytes) {
  const bool exact = exact_blocks();
  const int64_t size =
      exact ? std::max<int64_t>(bytes, 1) : (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (!exact) {
    while (chunk_ < chunks_.size() && used_ + size > chunks_[chunk_].bytes) {
      ++chunk_;
      used_ = 0;
    }
  } else {
    chunk_ = chunks_.size();
  }
  if (chunk_ == chunks_.size()) {
    const int64_t chunk_bytes = exact ? size : std::max(size, kMinChunk);
    chunks_.reserve(chunks_.size() + 1);
    chunks_.push_back({new_chunk(chunk_bytes), chunk_bytes});
    used_ = 0;
  }
  char* allocation = chunks_[chunk_].data + used_;
  used_ += size;
  return allocation;
}

void Scratch::reset() {
  if (kept_) return;
  if (exact_blocks()) free_chunks();
  chunk_ = 0;
  used_ = 0;
}

}  // namespace ml::ML_CUDA_NAMESPACE
