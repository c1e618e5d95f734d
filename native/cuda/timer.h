#pragma once
// How long operations take on the device: events around each, read when the device has passed them.
// Launching is one thread's.

#include <cuda_runtime.h>

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
  void collect();  // adds up what the device has passed

 private:
  struct Timed {
    const char* name;
    cudaEvent_t start, stop;
  };
  void add_passed();

  EventPool& events_;
  OperationTimes& times_;
  std::mutex mutex_;
  cudaEvent_t start_ = nullptr;
  std::deque<Timed> running_;
};

}  // namespace ml::ML_CUDA_NAMESPACE
