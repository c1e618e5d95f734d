#include "cuda/scratch.h"

#include <algorithm>

#include "cuda/check.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

#ifdef ML_SIMT
constexpr bool kEachOnItsOwn = true;
#else
constexpr bool kEachOnItsOwn = false;
#endif
constexpr int64_t kAlignment = 256;
constexpr int64_t kChunk = int64_t{8} << 20;

}  // namespace

Scratch::~Scratch() {
  for (const Chunk& c : chunks_) (void)cudaFree(c.data);
}

void* Scratch::take(int64_t bytes) {
  const int64_t size = kEachOnItsOwn ? std::max<int64_t>(bytes, 1)
                                     : (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (!kEachOnItsOwn) {
    while (chunk_ < chunks_.size() && used_ + size > chunks_[chunk_].bytes) {
      ++chunk_;
      used_ = 0;
    }
  } else {
    chunk_ = chunks_.size();
  }
  if (chunk_ == chunks_.size()) {
    const int64_t whole = kEachOnItsOwn ? size : std::max(size, kChunk);
    void* data = nullptr;
    check_cuda(cudaMalloc(&data, static_cast<size_t>(whole)), "cudaMalloc");
    chunks_.push_back({static_cast<char*>(data), whole});
    used_ = 0;
  }
  char* piece = chunks_[chunk_].data + used_;
  used_ += size;
  return piece;
}

void Scratch::reset() {
  if (kept_) return;
  if (kEachOnItsOwn) {
    for (const Chunk& c : chunks_) (void)cudaFree(c.data);
    chunks_.clear();
  }
  chunk_ = 0;
  used_ = 0;
}

}  // namespace ml::ML_CUDA_NAMESPACE
