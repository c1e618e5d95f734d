#pragma once
// How long operations take on the device: events around each, read when the device has passed them. Launching is one thread's.

#include <cuda_runtime.h>

#include <deque>
#include <mutex>
#include <vector>

#include "cuda/events.h"
#include "device/stream.h"

namespace ml::ML_CUDA_NAMESPACE {

class OperationTimer {
 public:
  explicit OperationTimer(EventPool& events) : events_(events) {}
  ~OperationTimer();

  void start(cudaStream_t stream);
  void stop(cudaStream_t stream, const char* name);
  std::vector<OperationTime> take();

 private:
  struct Timed {
    const char* name;
    cudaEvent_t start, stop;
  };
  void collect();

  EventPool& events_;
  std::mutex mutex_;
  cudaEvent_t start_ = nullptr;
  std::deque<Timed> running_;
  std::vector<OperationTime> times_;
};

}  // namespace ml::ML_CUDA_NAMESPACE
