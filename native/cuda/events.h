#pragma once
// A pool of CUDA events.

#include <cuda_runtime.h>

#include <mutex>
#include <vector>

#include "cuda/check.h"

namespace ml::ML_CUDA_NAMESPACE {

class EventPool {
 public:
  explicit EventPool(unsigned flags) : flags_(flags) {}
  ~EventPool() {
    for (cudaEvent_t e : free_) (void)cudaEventDestroy(e);
  }

  cudaEvent_t acquire() {
    std::lock_guard<std::mutex> lock(mutex_);
    cudaEvent_t event = nullptr;
    if (!free_.empty()) {
      event = free_.back();
      free_.pop_back();
      return event;
    }
    if (free_.capacity() <= made_) free_.reserve(2 * made_ + 1);  // so that release() can't fail
    check_cuda(cudaEventCreateWithFlags(&event, flags_), "cudaEventCreateWithFlags");
    ++made_;
    return event;
  }

  void release(cudaEvent_t event) noexcept {
    std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(event);
  }

 private:
  unsigned flags_;
  std::mutex mutex_;
  std::vector<cudaEvent_t> free_;
  size_t made_ = 0;
};

}  // namespace ml::ML_CUDA_NAMESPACE
