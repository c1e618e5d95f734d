#include "cuda/timer.h"

#include <utility>

#include "cuda/check.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

constexpr size_t kMaxPending = 512;  // operations whose events are kept before they are read

}  // namespace

OperationTimer::~OperationTimer() {
  if (start_) events_.release(start_);
  for (const Timed& t : pending_) {
    events_.release(t.start);
    events_.release(t.stop);
  }
}

void OperationTimer::start(cudaStream_t stream) {
  if (!asked_.load(std::memory_order_relaxed)) return;
  if (!start_) start_ = events_.acquire();  // an operation that failed leaves its event here
  check_cuda(cudaEventRecord(start_, stream), "cudaEventRecord");
}

void OperationTimer::stop(cudaStream_t stream, const char* name) {
  if (!start_) return;
  const cudaEvent_t stop = events_.acquire();
  check_cuda(cudaEventRecord(stop, stream), "cudaEventRecord");
  std::lock_guard<std::mutex> lock(mutex_);
  pending_.push_back({name, std::exchange(start_, nullptr), stop});
  if (pending_.size() > kMaxPending) add_finished();
}

void OperationTimer::add_finished() {
  while (!pending_.empty() && cudaEventQuery(pending_.front().stop) == cudaSuccess) {
    const Timed t = pending_.front();
    pending_.pop_front();
    float milliseconds = 0;
    (void)cudaEventElapsedTime(&milliseconds, t.start, t.stop);
    events_.release(t.start);
    events_.release(t.stop);
    times_.add(t.name, milliseconds * 1e-3);
  }
}

void OperationTimer::collect() {
  asked_ = true;
  std::lock_guard<std::mutex> lock(mutex_);
  add_finished();
}

}  // namespace ml::ML_CUDA_NAMESPACE
