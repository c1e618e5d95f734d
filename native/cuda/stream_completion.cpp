// Sync points: the launch thread enqueues them, the completion thread waits for each and reports
// the work up to it, with its fault.

#include <cstring>
#include <utility>

#include "cuda/stream.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

static_assert(sizeof(FaultRecord) <= kRecordBytes);

const std::optional<Fault>& earlier(const std::optional<Fault>& a, const std::optional<Fault>& b) {
  return !b || (a && a->first <= b->first) ? a : b;
}

}  // namespace

// ---- Launch thread

// Hands a sync point to the completion thread, with a copy of the fault record at that point.
void CudaStream::enqueue(SyncPoint point) {
  // a launch that failed says nothing about the device, which may well go on
  std::optional<Fault> earlier_failure = std::exchange(failed_, std::nullopt);
  attempt(point.ticket, [&] {
    if (recording_) return;  // a graph has no sync points
    if (!point.block.data) {
      point.pool = &launch_staging_;
      point.block = launch_staging_.acquire(kRecordBytes);
    }
    const cudaEvent_t event = sync_events_.acquire();
    check_cuda(cudaMemcpyAsync(point.block.data, record_, sizeof(FaultRecord),
                               cudaMemcpyDeviceToHost, stream_),
               "cudaMemcpyAsync of the fault record");
    check_cuda(cudaEventRecord(event, stream_), "cudaEventRecord");
    point.event = event;
  });
  if (earlier_failure) failed_ = std::move(earlier_failure);
  point.fault = failed_;
  if (point.last) synced_ = point.ticket;
  {
    std::lock_guard<std::mutex> lock(queue_mutex_);
    points_.push_back(std::move(point));
  }
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

std::optional<Fault> CudaStream::fault_at(const SyncPoint& point) {
  if (!point.event) return point.fault;
  if (const cudaError_t status = cudaEventSynchronize(point.event); status != cudaSuccess)
    return earlier(point.fault, Fault{error_of(status, "cudaEventSynchronize"), point.ticket});
  FaultRecord record;
  std::memcpy(&record, point.block.data, sizeof(record));
  if (!record.raised) return point.fault;
  std::lock_guard<std::mutex> lock(queue_mutex_);
  return earlier(point.fault, Fault{error_of(sites_[record.site], record),
                                    record.ticket ? record.ticket : record.replay});
}

void CudaStream::finish(SyncPoint& point) {
  const std::optional<Fault> fault = fault_at(point);
  if (!fault && point.target && point.bytes)
    std::memcpy(point.target, point.block.data + kRecordBytes, point.bytes);
  if (point.event) sync_events_.release(point.event);
  if (point.block.data) point.pool->release(point.block);
  if (point.action) point.action();
  if (!point.last) return;
  // before complete(): a caller that waits may then destroy what this calls
  if (point.finished) point.finished(fault);
  complete(point.ticket, fault);
}

}  // namespace ml::ML_CUDA_NAMESPACE
