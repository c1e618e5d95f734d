// The stream's queue and its launch thread. Copies between host and device are in stream_copy.cpp,
// the completion thread in stream_completion.cpp, recorded graphs in stream_graph.cpp.

#include "cuda/stream.h"

#include <algorithm>
#include <utility>

#include "core/pause.h"
#include "core/thread.h"
#include "cuda/checks.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// about 10 µs before the launch thread enqueues a sync point and sleeps
constexpr int kSpins = 2000;

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check_cuda(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}

DeviceLimits limits_of(int device) {
  return {
      .multiprocessors = attribute(cudaDevAttrMultiProcessorCount, device),
      .shared_per_block = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
      .shared_per_multiprocessor = attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, device)};
}

}  // namespace

CudaStream::CudaStream(int device)
    : device_(device),
      sync_events_(cudaEventDisableTiming | cudaEventBlockingSync),
      timing_events_(cudaEventDefault),
      timer_(timing_events_, operation_times_),
      scratch_(std::make_unique<Scratch>()) {
  use_device();
  limits_ = limits_of(device);
  check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
             "cudaStreamCreateWithFlags");
  void* record = nullptr;
  check_cuda(cudaMalloc(&record, sizeof(FaultRecord)), "cudaMalloc");
  record_ = static_cast<FaultRecord*>(record);
  check_cuda(cudaMemsetAsync(record_, 0, sizeof(FaultRecord), stream_), "cudaMemsetAsync");
  enqueue_clear(*this);
  launch_thread_ = start_thread("the launch thread", [this] { launch_loop(); });
  completion_thread_ = start_thread("the completion thread", [this] { completion_loop(); });
}

CudaStream::~CudaStream() {
  {
    std::lock_guard<std::mutex> lock(queue_mutex_);
    stop_ = true;
  }
  work_pushed_.notify_one();
  launch_thread_.join();
  {
    std::lock_guard<std::mutex> lock(queue_mutex_);
    launch_thread_done_ = true;
  }
  point_pushed_.notify_one();
  completion_thread_.join();
  (void)cudaFree(record_);
  (void)cudaStreamDestroy(stream_);
}

// The runtime has a current device for each thread.
void CudaStream::use_device() const { check_cuda(cudaSetDevice(device_), "cudaSetDevice"); }

// ---- Caller's thread

void CudaStream::push(Work work) {
  {
    std::lock_guard<std::mutex> lock(queue_mutex_);
    queue_.push_back(std::move(work));
    pushed_.store(next_ticket(), std::memory_order_release);
  }
  work_pushed_.notify_one();
}

void CudaStream::launch(const char* name, std::function<void(CudaStream&)> operation) {
  push({.name = name, .operation = std::move(operation)});
}

std::optional<Fault> CudaStream::wait() {
  read(nullptr, nullptr, 0, nullptr);
  return wait_for_submitted();
}

void CudaStream::always(std::function<void()> action) {
  push({.unconditional = [this, action = std::move(action)](Ticket ticket) {
    SyncPoint point;
    point.ticket = ticket;
    point.action = action;
    enqueue(std::move(point));
  }});
}

void CudaStream::resume() {
  push({.unconditional = [this](Ticket ticket) {
    failed_.reset();
    attempt(ticket, [&] { enqueue_clear(*this); });
  }});
}

void CudaStream::collect_times() {
  use_device();
  timer_.collect();
}

// ---- Launch thread

// The next piece of work. When there is none for a while, enqueues a sync point, so that
// completed() advances, and sleeps.
bool CudaStream::next(Work& work) {
  for (int spin = 0; spin < kSpins && pushed_.load(std::memory_order_acquire) == current_; ++spin)
    pause_cpu();
  if (synced_ != current_ && !recording_ && pushed_.load(std::memory_order_acquire) == current_) {
    SyncPoint point;
    point.ticket = current_;
    enqueue(std::move(point));
  }
  std::unique_lock<std::mutex> lock(queue_mutex_);
  work_pushed_.wait(lock, [this] { return stop_ || !queue_.empty(); });
  if (queue_.empty()) return false;
  work = std::move(queue_.front());
  queue_.pop_front();
  return true;
}

void CudaStream::launch_loop() {
  attempt(1, [&] { use_device(); });
  for (Work work; next(work); work = {}) perform(work, ++current_);
}

void CudaStream::perform(Work& work, Ticket ticket) {
  if (work.unconditional) return work.unconditional(ticket);
  attempt(ticket, [&] {
    if (recording_) return work.operation(*this);
    timer_.start(stream_);
    work.operation(*this);
    timer_.stop(stream_, work.name);
  });
  scratch_->reset();
}

void CudaStream::check(FaultSite site, const View& values) {
  uint32_t number = 0;
  {
    std::lock_guard<std::mutex> lock(queue_mutex_);
    const auto known = std::find(sites_.begin(), sites_.end(), site);
    number = static_cast<uint32_t>(known - sites_.begin());
    if (known == sites_.end()) sites_.push_back(site);
  }
  enqueue_check(*this, site, number, recording_ ? 0 : current_, values.as<int32_t>(),
                values.size());
}

void CudaStream::check_indices(const char* op, const char* argument, const View& indices,
                               int64_t slots) {
  check({.kind = FaultSite::Kind::indices, .op = op, .argument = argument, .limit = slots},
        indices);
}

void CudaStream::check_offsets(const char* op, const View& offsets, int64_t entries) {
  check({.kind = FaultSite::Kind::offsets, .op = op, .argument = "offsets", .limit = entries},
        offsets);
}

void CudaStream::check_targets(const char* op, const View& targets, int64_t classes) {
  check({.kind = FaultSite::Kind::targets, .op = op, .argument = "targets", .limit = classes},
        targets);
}

}  // namespace ml::ML_CUDA_NAMESPACE
