#include "cuda/scratch.h"

#include <algorithm>

#include "cuda/check.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

#ifdef ML_SIMT
constexpr bool kExactChunks = true;
#else
constexpr bool kExactChunks = false;
#endif
constexpr int64_t kAlignment = 256;              // bytes
constexpr int64_t kMinChunk = int64_t{8} << 20;  // bytes

}  // namespace

Scratch::~Scratch() {
  for (const Chunk& c : chunks_) (void)cudaFree(c.data);
}

void* Scratch::allocate(int64_t bytes) {
  const int64_t size = kExactChunks ? std::max<int64_t>(bytes, 1)
                                    : (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (!kExactChunks) {
    while (chunk_ < chunks_.size() && used_ + size > chunks_[chunk_].bytes) {
      ++chunk_;
      used_ = 0;
    }
  } else {
    chunk_ = chunks_.size();
  }
  if (chunk_ == chunks_.size()) {
    const int64_t chunk_bytes = kExactChunks ? size : std::max(size, kMinChunk);
    chunks_.reserve(chunks_.size() + 1);
    void* data = nullptr;
    check_cuda(cudaMalloc(&data, static_cast<size_t>(chunk_bytes)), "cudaMalloc");
    chunks_.push_back({static_cast<char*>(data), chunk_bytes});
    used_ = 0;
  }
  char* allocation = chunks_[chunk_].data + used_;
  used_ += size;
  return allocation;
}

void Scratch::reset() {
  if (kept_) return;
  if (kExactChunks) {
    for (const Chunk& c : chunks_) (void)cudaFree(c.data);
    chunks_.clear();
  }
  chunk_ = 0;
  used_ = 0;
}

}  // namespace ml::ML_CUDA_NAMESPACE
