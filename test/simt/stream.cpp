#include "stream.h"

#include <atomic>
#include <cerrno>
#include <chrono>
#include <set>
#include <system_error>

#include "machine.h"

namespace simt {

namespace {
thread_local toolkit::cudaError_t last_error = toolkit::cudaSuccess;
}

toolkit::cudaError_t result(toolkit::cudaError_t error) {
  if (error != toolkit::cudaSuccess) last_error = error;
  return error;
}

namespace {
std::mutex streams_mutex;
std::set<toolkit::CUstream_st*>& streams() {
  static auto& all = *new std::set<toolkit::CUstream_st*>;
  return all;
}
std::atomic<bool> default_stream_used{false};
}  // namespace

toolkit::CUstream_st& stream_of(toolkit::cudaStream_t stream) {
  if (stream) return *stream;
  static auto& standard = *new toolkit::CUstream_st(0);
  default_stream_used = true;
  return standard;
}

// The default stream is each device's own, and one here.
bool on_current_device(const toolkit::CUstream_st& stream) {
  return stream.device == current_device() || &stream == &stream_of(nullptr);
}

namespace toolkit {

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

// Throws std::system_error where the system refuses the thread.
CUstream_st::CUstream_st(int on) : device(on) {
  if (ml::fails(ml::Failure::thread))
    throw std::system_error(EAGAIN, std::generic_category(), "pthread_create");
  worker = std::thread([this] {
    const ml::Uncounted uncounted;
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [this] { return stopping || !queue.empty(); });
      if (queue.empty()) return;
      Work work = std::move(queue.front());
      queue.pop_front();
      busy = true;
      lock.unlock();
      work();
      work = nullptr;
      lock.lock();
      busy = false;
      changed.notify_all();
    }
  });
}

CUstream_st::~CUstream_st() {
  {
    const std::lock_guard lock(mutex);
    stopping = true;
  }
  changed.notify_all();
  worker.join();
}

void CUstream_st::enqueue(Work work) {
  {
    const std::lock_guard lock(mutex);
    if (recording) {
      recording->push_back(std::move(work));
      return;
    }
    queue.push_back(std::move(work));
  }
  changed.notify_all();
}

void CUstream_st::drain() {
  std::unique_lock lock(mutex);
  changed.wait(lock, [this] { return queue.empty() && !busy; });
}

bool CUstream_st::idle() {
  const std::lock_guard lock(mutex);
  return queue.empty() && !busy;
}

namespace {

// Waiting inside a capture is not allowed and spoils it.
bool spoils_capture(CUstream_st& s) {
  const std::lock_guard lock(s.mutex);
  if (s.recording) s.invalidated = true;
  return s.recording.has_value();
}

}  // namespace

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  const RuntimeCall call;
  if (call.refused()) return result(cudaErrorLaunchFailure);
  try {
    *stream = new CUstream_st(current_device());
  } catch (const std::system_error&) {
    return result(cudaErrorOperatingSystem);
  }
  const std::lock_guard lock(streams_mutex);
  streams().insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (!stream) return result(cudaErrorInvalidResourceHandle);
  {
    const std::lock_guard lock(streams_mutex);
    streams().erase(stream);
  }
  delete stream;  // when its work has run
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  if (default_stream_used) stream_of(nullptr).drain();
  const std::lock_guard lock(streams_mutex);
  for (CUstream_st* s : streams()) s->drain();
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  CUstream_st& s = stream_of(stream);
  if (spoils_capture(s)) return result(cudaErrorStreamCaptureUnsupported);
  s.drain();
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  CUstream_st& s = stream_of(stream);
  if (spoils_capture(s)) return result(cudaErrorStreamCaptureUnsupported);
  return s.idle() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  stream_of(stream).enqueue([function, data] { function(data); });
  return cudaSuccess;
}

// Events: how often one was recorded, and how often the stream has passed it.
struct CUevent_st {
  std::mutex mutex;
  std::condition_variable changed;
  uint64_t recorded = 0, passed = 0;
  int device = current_device();
  bool timed = true;
  std::chrono::steady_clock::time_point time;
};

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  const RuntimeCall call;
  if (call.refused()) return result(cudaErrorLaunchFailure);
  *event = new CUevent_st;
  (*event)->timed = !(flags & cudaEventDisableTiming);
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

namespace {

void wait_for(cudaEvent_t event) {
  std::unique_lock lock(event->mutex);
  event->changed.wait(lock, [&] { return event->passed == event->recorded; });
}

}  // namespace

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (!event) return result(cudaErrorInvalidResourceHandle);
  wait_for(event);
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const RuntimeCall call;
  if (call.refused()) return result(cudaErrorLaunchFailure);
  if (event->timed) ++call_counts.timed_events;
  CUstream_st& s = stream_of(stream);
  if (stream && event->device != s.device) return result(cudaErrorInvalidResourceHandle);
  {
    const std::lock_guard lock(s.mutex);
    // Inside a graph an event orders work; in one stream that is already in order.
    if (s.recording) return cudaSuccess;
  }
  uint64_t number;
  {
    const std::lock_guard lock(event->mutex);
    number = ++event->recorded;
  }
  s.enqueue([event, number] {
    // Notified under the lock: the waiting thread may destroy the event at once.
    const std::lock_guard lock(event->mutex);
    event->passed = number;
    event->time = std::chrono::steady_clock::now();
    event->changed.notify_all();
  });
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  ++call_counts.event_queries;
  const std::lock_guard lock(event->mutex);
  return event->passed == event->recorded ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const RuntimeCall call;
  ++call_counts.event_waits;
  wait_for(event);
  return call.refused() ? result(cudaErrorLaunchFailure) : cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  uint64_t number;
  {
    const std::lock_guard lock(event->mutex);
    number = event->recorded;
  }
  stream_of(stream).enqueue([event, number] {
    std::unique_lock lock(event->mutex);
    event->changed.wait(lock, [&] { return event->passed >= number; });
  });
  return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  const std::scoped_lock lock(from->mutex, to->mutex);
  if (!from->timed || !to->timed || from->recorded == 0 || to->recorded == 0)
    return result(cudaErrorInvalidResourceHandle);
  if (from->passed != from->recorded || to->passed != to->recorded)
    return result(cudaErrorNotReady);
  *milliseconds = std::chrono::duration<float, std::milli>(to->time - from->time).count();
  return cudaSuccess;
}

// Graphs.

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const RuntimeCall call;
  if (call.refused()) return result(cudaErrorLaunchFailure);
  if (!stream) return result(cudaErrorStreamCaptureUnsupported);
  const std::lock_guard lock(stream->mutex);
  if (stream->recording) return result(cudaErrorStreamCaptureUnsupported);
  stream->recording.emplace();
  stream->invalidated = false;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const RuntimeCall call;
  if (call.refused()) return result(cudaErrorLaunchFailure);
  *graph = nullptr;
  if (!stream) return result(cudaErrorInvalidResourceHandle);
  const std::lock_guard lock(stream->mutex);
  if (!stream->recording) return result(cudaErrorInvalidValue);
  std::vector<Work> work = std::move(*stream->recording);
  stream->recording.reset();
  if (stream->invalidated) return result(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st{std::move(work)};
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  CUstream_st& s = stream_of(stream);
  const std::lock_guard lock(s.mutex);
  *status = !s.recording    ? cudaStreamCaptureStatusNone
            : s.invalidated ? cudaStreamCaptureStatusInvalidated
                            : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  const RuntimeCall call;
  if (call.refused()) return result(cudaErrorLaunchFailure);
  *executable = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  const RuntimeCall call;
  if (call.refused()) return result(cudaErrorLaunchFailure);
  CUstream_st& s = stream_of(stream);
  for (const Work& work : executable->work) s.enqueue(work);
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}

}  // namespace toolkit
}  // namespace simt
