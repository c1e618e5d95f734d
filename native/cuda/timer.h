#pragma once
// The time of each operation on the device: an event before and after it, read when the device has
// passed them. Operations are started and stopped by one thread.

#include <cuda_runtime.h>

#include <atomic>
#include <deque>
#include <mutex>

#include "cuda/events.h"
#include "device/operation_times.h"

namespace ml::ML_CUDA_NAMESPACE {

class OperationTimer {
 public:
  OperationTimer(EventPool& events, OperationTimes& times) : events_(events), times_(times) {}
  ~OperationTimer();

  void start(cudaStream_t stream);
  void stop(cudaStream_t stream, const char* name);
  // Adds the operations that the device has finished. Those before the first call are not timed:
  // events cost launches, and mostly nobody asks.
  void collect();

 private:
  struct Timed {
    const char* name;
    cudaEvent_t start, stop;
  };
  void add_finished();

  EventPool& events_;
  OperationTimes& times_;
  std::atomic<bool> asked_{false};
  std::mutex mutex_;
  cudaEvent_t start_ = nullptr;
  std::deque<Timed> pending_;
};

}  // namespace ml::ML_CUDA_NAMESPACE
