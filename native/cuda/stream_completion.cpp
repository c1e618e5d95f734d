// Sync points: the launch thread enqueues them, the completion thread waits for each and reports
// the work up to it, with its fault.

#include <chrono>
#include <cstring>
#include <utility>

#include "core/insist.h"
#include "core/pause.h"
#include "cuda/stream.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

static_assert(sizeof(CheckState) <= kStateBytes);

// What is waited for is mostly a small step away: sleeping and waking would take longer than that.
cudaError_t poll_then_wait(cudaEvent_t event) {
  constexpr std::chrono::microseconds kPolled{50};
  const auto end = std::chrono::steady_clock::now() + kPolled;
  cudaError_t status = cudaEventQuery(event);
  while (status == cudaErrorNotReady && std::chrono::steady_clock::now() < end) {
    pause_cpu();
    status = cudaEventQuery(event);
  }
  if (status != cudaErrorNotReady) return status;
  (void)cudaGetLastError();
  return cudaEventSynchronize(event);
}

// The error that `make` makes, or what can be said where there is no memory for it.
template <class F>
Error error_from(const F& make) noexcept {
  try {
    return make();
  } catch (const std::bad_alloc&) {
    return Error::without_memory(Code::out_of_memory, "no memory left for the message of a fault.");
  }
}

}  // namespace

// ---- Launch thread

// Hands a sync point to the completion thread, with a copy of the checks at that point.
void CudaStream::enqueue(SyncPoint point) {
  point.fault = attempt(point.ticket, [&] {
    if (!point.block.data) {
      point.pool = &launch_staging_;
      insist([&] { point.block = launch_staging_.acquire(kStateBytes); });
    }
    cudaEvent_t event = nullptr;
    insist([&] { event = sync_events_.acquire(); });
    check_cuda(cudaMemcpyAsync(point.block.data, checks_, sizeof(CheckState),
                               cudaMemcpyDeviceToHost, stream_),
               "cudaMemcpyAsync of the checks");
    check_cuda(cudaEventRecord(event, stream_), "cudaEventRecord");
    point.event = event;
  });
  if (point.last) {
    synced_ = point.ticket;
    unsynced_checks_ = 0;
  }
  insist([&] {
    std::lock_guard<std::mutex> lock(queue_mutex_);
    points_.push_back(std::move(point));
  });
  point_pushed_.notify_one();
}

// ---- Completion thread

void CudaStream::completion_loop() {
  for (;;) {
    SyncPoint point;
    {
      std::unique_lock<std::mutex> lock(queue_mutex_);
      point_pushed_.wait(lock, [this] { return launch_thread_done_ || !points_.empty(); });
      if (points_.empty()) return;
      point = std::move(points_.front());
      points_.pop_front();
    }
    finish(point);
  }
}

// Settles the outcomes of all work up to the point. With a fault the device can't be reached, and
// all of it is void.
void CudaStream::settle_launched(const SyncPoint& point, const FaultPtr& unreachable) {
  CheckState state{};
  if (unreachable)
    state.failed = kAllChecks;
  else
    std::memcpy(&state, point.block.data, sizeof(state));
  const Ticket last = point.last ? point.ticket : point.ticket - 1;
  std::lock_guard<std::mutex> lock(outcomes_mutex_);
  uint32_t freed = 0;
  for (; !launched_.empty() && launched_.front().ticket <= last; launched_.pop_front()) {
    const Launched& work = launched_.front();
    const bool failed = work.check < kChecks && (state.failed & bit_of(work.check));
    if (work.check < kChecks) freed |= bit_of(work.check);
    if (work.outcome->known()) continue;
    FaultPtr fault = work.outcome->inherited();
    if (!fault) fault = unreachable;
    if (!fault && failed) {
      const FaultRecord& record = state.records[work.check];
      fault =
          fail(error_from([&] { return error_of(work.sites[record.site], record); }), work.ticket);
    }
    work.outcome->settle(std::move(fault));
  }
  if (freed == 0) return;
  // Work launched since then that depends on a check that has failed is void by now.
  for (const Launched& work : launched_) {
    if (work.outcome->checks & freed & state.failed)
      if (FaultPtr fault = work.outcome->inherited()) work.outcome->settle(std::move(fault));
    work.outcome->checks &= ~freed;
  }
  free_checks_ |= freed;
  failed_checks_ |= freed & state.failed;
  checks_freed_.notify_one();
}

// Whether what the point has read is what was wanted.
bool CudaStream::read_is_sound(const SyncPoint& point) {
  std::lock_guard<std::mutex> lock(outcomes_mutex_);
  return !point.outcome->fault() && !point.outcome->inherited();
}

void CudaStream::finish(SyncPoint& point) {
  FaultPtr unreachable = point.fault;
  if (point.event) {
    if (const cudaError_t status = poll_then_wait(point.event); status != cudaSuccess)
      unreachable =
          fail(error_from([&] { return error_of(status, "cudaEventSynchronize"); }), point.ticket);
    sync_events_.release(point.event);
  }
  if (point.event || unreachable) settle_launched(point, unreachable);
  if (point.event && point.target && point.bytes && read_is_sound(point))
    std::memcpy(point.target, point.block.data + kStateBytes, point.bytes);
  if (point.block.data) point.pool->release(point.block);
  if (point.action) point.action();
  if (!point.last) return;
  // before complete(): a caller that waits may then destroy what this calls
  if (point.finished) point.finished(point.outcome->fault());
  complete(point.ticket);
}

}  // namespace ml::ML_CUDA_NAMESPACE
