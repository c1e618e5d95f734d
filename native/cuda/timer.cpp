#include "cuda/timer.h"

#include <utility>

#include "cuda/check.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {
constexpr size_t kMostRunning = 512;  // operations whose events are kept before they are read
}

// Nobody asks for these times any more.
OperationTimer::~OperationTimer() {
  if (start_) events_.give(start_);
  for (const Timed& t : running_) {
    events_.give(t.start);
    events_.give(t.stop);
  }
}

void OperationTimer::start(cudaStream_t stream) {
  if (!start_) start_ = events_.take();  // an operation that failed leaves its own
  check_cuda(cudaEventRecord(start_, stream), "cudaEventRecord");
}

void OperationTimer::stop(cudaStream_t stream, const char* name) {
  const cudaEvent_t stop = events_.take();
  check_cuda(cudaEventRecord(stop, stream), "cudaEventRecord");
  std::lock_guard<std::mutex> lock(mutex_);
  running_.push_back({name, std::exchange(start_, nullptr), stop});
  if (running_.size() > kMostRunning) add_passed();
}

void OperationTimer::add_passed() {
  while (!running_.empty() && cudaEventQuery(running_.front().stop) == cudaSuccess) {
    const Timed t = running_.front();
    running_.pop_front();
    float milliseconds = 0;
    (void)cudaEventElapsedTime(&milliseconds, t.start, t.stop);
    events_.give(t.start);
    events_.give(t.stop);
    times_.add(t.name, milliseconds * 1e-3);
  }
}

void OperationTimer::collect() {
  std::lock_guard<std::mutex> lock(mutex_);
  add_passed();
}

}  // namespace ml::ML_CUDA_NAMESPACE
