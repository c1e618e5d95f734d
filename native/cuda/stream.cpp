// The stream's queue and its launch thread. Checks are in stream_checks.cpp, copies between host
// and device in stream_copy.cpp, the completion thread in stream_completion.cpp, recorded graphs in
// stream_graph.cpp.

#include "cuda/stream.h"

#include <exception>
#include <utility>

#include "core/insist.h"
#include "core/pause.h"
#include "core/thread.h"
#include "cuda/checks.h"
#include "cuda/on_device.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// about 10 µs before the launch thread enqueues a sync point and sleeps
constexpr int kSpins = 2000;
// pieces of work, and checks among them, before a sync point settles what they have come to
constexpr Ticket kMaxUnsynced = 256;
constexpr int kMaxUnsyncedChecks = kChecks / 4;

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check_cuda(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}

DeviceLimits limits_of(int device) {
  return {
      .multiprocessors = attribute(cudaDevAttrMultiProcessorCount, device),
      .shared_per_block = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
      .shared_per_multiprocessor = attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, device),
      .l2 = attribute(cudaDevAttrL2CacheSize, device)};
}

// What the stream does itself: skipped when void, or not.
class Function final : public Work {
 public:
  Function(const char* called, std::function<void(CudaStream&)> f, OutcomePtr settled)
      : f_(std::move(f)) {
    name = called;
    outcome = std::move(settled);
  }
  void run(void* stream) override { f_(*static_cast<CudaStream*>(stream)); }

 private:
  const std::function<void(CudaStream&)> f_;
};

}  // namespace

CudaStream::CudaStream(int device)
    : device_(device),
      sync_events_(cudaEventDisableTiming | cudaEventBlockingSync),
      timing_events_(cudaEventDefault),
      timer_(timing_events_, operation_times_),
      scratch_(std::make_unique<Scratch>(scratch_use_)) {
  scratch_use_->make_room = [this] { make_room(); };
  try {
    start();
  } catch (const std::exception&) {
    end();
    throw;
  }
}

void CudaStream::start() {
  const OnDevice current(device_);
  limits_ = limits_of(device_);
  check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
             "cudaStreamCreateWithFlags");
  void* state = nullptr;
  check_cuda(cudaMalloc(&state, sizeof(StreamState)), "cudaMalloc");
  checks_ = static_cast<StreamState*>(state);
  check_cuda(cudaMemsetAsync(state, 0, sizeof(StreamState), stream_), "cudaMemsetAsync");
  enqueue_clear(*this, kAllChecks);
  // every sync point needs one: where there are no more, the next waits for it
  launch_staging_.release(launch_staging_.acquire(kStateBytes));
  launch_thread_ = start_thread("ml-launch", "the launch thread", [this] { launch_loop(); });
  completion_thread_ =
      start_thread("ml-complete", "the completion thread", [this] { completion_loop(); });
}

// Also of a stream that could not be started.
void CudaStream::end() noexcept {
  {
    std::lock_guard<std::mutex> lock(queue_mutex_);
    stop_ = true;
  }
  work_pushed_.notify_one();
  if (launch_thread_.joinable()) launch_thread_.join();
  {
    std::lock_guard<std::mutex> lock(queue_mutex_);
    launch_thread_done_ = true;
  }
  point_pushed_.notify_one();
  if (completion_thread_.joinable()) completion_thread_.join();
  if (checks_) (void)cudaFree(checks_);
  if (stream_) (void)cudaStreamDestroy(stream_);
}

// ---- Caller's thread

void CudaStream::launch(WorkPtr work) noexcept {
  {
    std::lock_guard<std::mutex> lock(queue_mutex_);
    queue_.push(std::move(work));
    pushed_.store(next_ticket(), std::memory_order_release);
  }
  work_pushed_.notify_one();
}

void CudaStream::launch_own(const char* name, std::function<void(CudaStream&)> operation,
                            OutcomePtr outcome) {
  launch(WorkPtr(new (*work_memory_) Function(name, std::move(operation), std::move(outcome))));
}

void CudaStream::launch_unconditional(std::function<void(Ticket)> action) {
  launch(WorkPtr(new (*work_memory_) Unconditional(std::move(action))));
}

void CudaStream::wait() {
  always(nullptr);
  wait_for_submitted();
}

void CudaStream::always(std::function<void()> action) {
  launch_unconditional([this, action = std::move(action)](Ticket ticket) {
    SyncPoint point;
    point.ticket = ticket;
    insist([&] { point.action = action; });
    enqueue(std::move(point));
  });
}

void CudaStream::collect_times() {
  const OnDevice current(device_);
  timer_.collect();
}

// ---- Launch thread

// The next piece of work, nullptr at the end. When there is none for a while, enqueues a sync
// point, so that completed() advances, and sleeps.
WorkPtr CudaStream::next() {
  for (int spin = 0; spin < kSpins && pushed_.load(std::memory_order_acquire) == current_; ++spin)
    pause_cpu();
  if (synced_ != current_ && pushed_.load(std::memory_order_acquire) == current_) {
    SyncPoint point;
    point.ticket = current_;
    enqueue(std::move(point));
  }
  std::unique_lock<std::mutex> lock(queue_mutex_);
  work_pushed_.wait(lock, [this] { return stop_ || !queue_.empty(); });
  return queue_.empty() ? nullptr : queue_.pop();
}

void CudaStream::launch_loop() {
  (void)attempt(1, [&] { check_cuda(cudaSetDevice(device_), "cudaSetDevice"); });
  while (const WorkPtr work = next()) {
    ++current_;
    if (work->outcome)
      run_work(*work, work->outcome);
    else
      static_cast<Unconditional&>(*work).action(current_);
  }
}

// Cached memory makes way for scratch memory. What an earlier piece of work has used is idle once
// that has run; a graph that is being recorded can't be waited for.
void CudaStream::make_room() {
  if (recording_ || !release_memory_) return;
  if (cudaStreamSynchronize(stream_) == cudaSuccess) release_memory_(current_ - 1);
}

// A sync point where much work, or many checks, would go without.
void CudaStream::enqueue_if_due() {
  if (current_ - synced_ < kMaxUnsynced && unsynced_checks_ < kMaxUnsyncedChecks) return;
  SyncPoint point;
  point.ticket = current_;
  enqueue(std::move(point));
}

// What the runtime refuses is told with the name of the operation.
void CudaStream::run_named(Work& work) {
  try {
    work.run(this);
  } catch (const Error& error) {
    if (error.code() != Code::out_of_memory && error.code() != Code::cuda) throw;
    throw Error(error.code(), std::string(work.name) + ": " + error.what());
  }
}

void CudaStream::run_work(Work& work, const OutcomePtr& outcome) {
  if (begin(outcome, current_)) {
    FaultPtr fault = attempt(current_, [&] {
      timer_.start(stream_);
      run_named(work);
      timer_.stop(stream_, work.name);
    });
    if (fault) settle(*outcome, std::move(fault));
  }
  scratch_->reset();
  enqueue_if_due();
}

}  // namespace ml::ML_CUDA_NAMESPACE
