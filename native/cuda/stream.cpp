#include "cuda/stream.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "core/pause.h"
#include "cuda/checks.h"
#include "cuda/launch.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// about 10 µs before the front thread marks the stream and sleeps
constexpr int kSpins = 2000;
constexpr size_t kSmallWrite = 4096;  // bytes that kernels carry as arguments
static_assert(sizeof(FaultRecord) <= kRecordRoom);

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check_cuda(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}

DeviceLimits limits_of(int device) {
  DeviceLimits l;
  l.multiprocessors = attribute(cudaDevAttrMultiProcessorCount, device);
  l.shared_per_block = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  l.shared_per_multiprocessor = attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, device);
  l.capability = 10 * attribute(cudaDevAttrComputeCapabilityMajor, device) +
                 attribute(cudaDevAttrComputeCapabilityMinor, device);
  return l;
}

const std::optional<Fault>& earlier(const std::optional<Fault>& a, const std::optional<Fault>& b) {
  return !b || (a && a->first <= b->first) ? a : b;
}

}  // namespace

LaunchTarget launch_target(CudaStream& stream) { return {stream.raw(), stream.guard()}; }

void launch_failed(CudaStream&, cudaError_t error, dim3 grid, dim3 block, size_t shared_bytes) {
  (void)cudaGetLastError();
  const auto text = [](dim3 d) {
    return std::to_string(d.x) + " x " + std::to_string(d.y) + " x " + std::to_string(d.z);
  };
  throw error_of(error, ("cudaLaunchKernelEx (grid " + text(grid) + ", block " + text(block) +
                         ", " + std::to_string(shared_bytes) + " shared bytes)")
                            .c_str());
}

CudaStream::Graph::~Graph() {
  if (executable) (void)cudaGraphExecDestroy(executable);
  if (graph) (void)cudaGraphDestroy(graph);
}

CudaStream::CudaStream(int device)
    : device_(device),
      points_(cudaEventDisableTiming | cudaEventBlockingSync),
      times_(cudaEventDefault),
      timer_(times_, operation_times_),
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
  front_thread_ = std::thread([this] { front(); });
  back_thread_ = std::thread([this] { back(); });
}

CudaStream::~CudaStream() {
  {
    std::lock_guard<std::mutex> lock(queue_mutex_);
    stop_ = true;
  }
  arrived_.notify_one();
  front_thread_.join();
  {
    std::lock_guard<std::mutex> lock(queue_mutex_);
    front_is_done_ = true;
  }
  marks_arrived_.notify_one();
  back_thread_.join();
  (void)cudaFree(record_);
  (void)cudaStreamDestroy(stream_);
}

// The runtime keeps the current device by thread.
void CudaStream::use_device() const { check_cuda(cudaSetDevice(device_), "cudaSetDevice"); }

// ---- caller's thread

void CudaStream::push(Work work) {
  {
    std::lock_guard<std::mutex> lock(queue_mutex_);
    queue_.push_back(std::move(work));
    pushed_.store(next_ticket(), std::memory_order_release);
  }
  arrived_.notify_one();
}

void CudaStream::launch(const char* name, std::function<void(CudaStream&)> operation) {
  push({name, std::move(operation), nullptr});
}

void CudaStream::write(void* target, const void* source, size_t bytes, bool fresh) {
  const char* from = static_cast<const char*>(source);
  if (bytes <= kSmallWrite) {
    if (bytes)
      launch("write", [target, fresh, data = std::vector<char>(from, from + bytes)](CudaStream& s) {
        enqueue_upload(s, target, data.data(), static_cast<int64_t>(data.size()), fresh);
      });
    return;
  }
  use_device();
  for (size_t at = 0; at < bytes; at += kCopyPiece) {
    const size_t piece = std::min(kCopyPiece, bytes - at);
    const PinnedPool::Block block = from_caller_.take(kRecordRoom + piece);
    std::memcpy(block.data + kRecordRoom, from + at, piece);
    char* to = static_cast<char*>(target) + at;
    push({nullptr, nullptr, [=, this](Ticket ticket) {
            attempt(ticket, [&] { put(to, block, piece, fresh); });
            Mark mark;
            mark.ticket = ticket;
            mark.pool = &from_caller_;
            mark.block = block;
            enqueue(std::move(mark));
          }});
  }
}

void CudaStream::read(void* target, const void* source, size_t bytes, Completion done) {
  push({nullptr, nullptr, [=, this, done = std::move(done)](Ticket ticket) {
          read_pieces(ticket, target, source, bytes, done);
        }});
}

std::optional<Fault> CudaStream::wait() {
  read(nullptr, nullptr, 0, nullptr);
  return wait_for_submitted();
}

// The front thread waits in fill(), so what comes after waits too.
void CudaStream::produce(void* target, size_t bytes, std::function<void(void*)> fill) {
  push({nullptr, nullptr, [=, this, fill = std::move(fill)](Ticket ticket) {
          std::vector<char> data;
          attempt(ticket, [&] {
            data.resize(bytes);
            fill(data.data());
          });
          for (size_t at = 0; at < bytes && !failed_; at += kCopyPiece) {
            const size_t piece = std::min(kCopyPiece, bytes - at);
            Mark mark;
            mark.ticket = ticket;
            mark.pool = &from_front_;
            mark.last = at + piece == bytes;
            attempt(ticket, [&] {
              mark.block = from_front_.take(kRecordRoom + piece);
              std::memcpy(mark.block.data + kRecordRoom, data.data() + at, piece);
              put(static_cast<char*>(target) + at, mark.block, piece, false);
            });
            enqueue(std::move(mark));
          }
        }});
}

void CudaStream::always(std::function<void()> action) {
  push({nullptr, nullptr, [this, action = std::move(action)](Ticket ticket) {
          Mark mark;
          mark.ticket = ticket;
          mark.action = action;
          enqueue(std::move(mark));
        }});
}

void CudaStream::resume() {
  push({nullptr, nullptr, [this](Ticket ticket) {
          failed_.reset();
          attempt(ticket, [&] { enqueue_clear(*this); });
        }});
}

void CudaStream::collect_times() {
  use_device();
  timer_.collect();
}

void CudaStream::begin_capture() {
  push({nullptr, nullptr, [this](Ticket ticket) {
          attempt(ticket, [&] {
            recording_ = std::make_shared<Graph>();
            recording_->scratch->keep();
            std::swap(scratch_, recording_->scratch);
            check_cuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed),
                       "cudaStreamBeginCapture");
          });
        }});
}

// Ends the recording in any case, so that the stream works again.
void CudaStream::end_recording(Graph& graph) {
  std::swap(scratch_, graph.scratch);
  const cudaError_t status = cudaStreamEndCapture(stream_, &graph.graph);
  if (failed_) return;
  check_cuda(status, "cudaStreamEndCapture");
  check_cuda(cudaGraphInstantiate(&graph.executable, graph.graph, 0), "cudaGraphInstantiate");
}

std::shared_ptr<CudaStream::Graph> CudaStream::end_capture() {
  std::shared_ptr<Graph> graph;
  push({nullptr, nullptr, [this, &graph](Ticket ticket) {
          graph = std::exchange(recording_, nullptr);
          if (!graph) return;  // it failed at its beginning
          try {
            end_recording(*graph);
          } catch (const Error& error) {
            failed_ = Fault{error, ticket};
          }
        }});
  if (const auto fault = wait()) {
    acknowledge(fault->first);
    throw fault->error;
  }
  return graph;
}

void CudaStream::abandon_capture() {
  try {
    end_capture();
  } catch (const Error&) {  // the caller has a reason of its own
  }
}

bool CudaStream::keep_with_graph(std::shared_ptr<void> object) {
  if (!recording_) return false;
  recording_->kept.push_back(std::move(object));
  return true;
}

void CudaStream::replay(std::shared_ptr<Graph> graph) {
  launch("graph", [graph = std::move(graph)](CudaStream& s) {
    enqueue_replay(s, s.running_);
    check_cuda(cudaGraphLaunch(graph->executable, s.stream_), "cudaGraphLaunch");
  });
}

// ---- front thread

// The next piece of work. When there is none for a while, marks the stream, so that completed()
// follows, and sleeps.
bool CudaStream::next(Work& work) {
  for (int spin = 0; spin < kSpins && pushed_.load(std::memory_order_acquire) == running_; ++spin)
    pause_cpu();
  if (marked_ != running_ && !recording_ && pushed_.load(std::memory_order_acquire) == running_) {
    Mark mark;
    mark.ticket = running_;
    enqueue(std::move(mark));
  }
  std::unique_lock<std::mutex> lock(queue_mutex_);
  arrived_.wait(lock, [this] { return stop_ || !queue_.empty(); });
  if (queue_.empty()) return false;
  work = std::move(queue_.front());
  queue_.pop_front();
  return true;
}

void CudaStream::front() {
  attempt(1, [&] { use_device(); });
  for (Work work; next(work); work = {}) perform(work, ++running_);
}

void CudaStream::perform(Work& work, Ticket ticket) {
  if (work.in_any_case) return work.in_any_case(ticket);
  attempt(ticket, [&] {
    if (recording_) return work.operation(*this);
    timer_.start(stream_);
    work.operation(*this);
    timer_.stop(stream_, work.name);
  });
  scratch_->reset();
}

// Launches, unless an earlier launch has failed. Keeps the error.
template <class F>
void CudaStream::attempt(Ticket ticket, F&& calls) {
  if (failed_) return;
  try {
    calls();
  } catch (const Error& error) {
    failed_ = Fault{error, ticket};
  } catch (const std::bad_alloc&) {
    failed_ =
        Fault{Error(Code::out_of_memory, "no memory for the bookkeeping of an operation."), ticket};
  }
}

// Copies what the block holds to the device. Contents that earlier work may still use change only
// if that work was not void.
void CudaStream::put(void* target, const PinnedPool::Block& block, size_t bytes, bool fresh) {
  void* to = fresh ? target : scratch_->take(static_cast<int64_t>(bytes));
  check_cuda(cudaMemcpyAsync(to, block.data + kRecordRoom, bytes, cudaMemcpyHostToDevice, stream_),
             "cudaMemcpyAsync to the device");
  if (!fresh) enqueue_copy(*this, target, to, static_cast<int64_t>(bytes));
  scratch_->reset();
}

void CudaStream::read_pieces(Ticket ticket, void* target, const void* source, size_t bytes,
                             const Completion& done) {
  size_t at = 0;
  do {
    const size_t piece = std::min(kCopyPiece, bytes - at);
    Mark mark;
    mark.ticket = ticket;
    mark.pool = &from_front_;
    mark.target = static_cast<char*>(target) + at;
    mark.bytes = piece;
    mark.last = at + piece == bytes;
    if (mark.last) mark.finished = done;
    attempt(ticket, [&] {
      if (recording_)
        throw Error(Code::unsupported,
                    "a graph is being recorded: nothing can be read before it ends.");
      mark.block = from_front_.take(kRecordRoom + piece);
      if (piece)
        check_cuda(
            cudaMemcpyAsync(mark.block.data + kRecordRoom, static_cast<const char*>(source) + at,
                            piece, cudaMemcpyDeviceToHost, stream_),
            "cudaMemcpyAsync to the host");
    });
    at += piece;
    enqueue(std::move(mark));
  } while (at < bytes);
}

// Hands a mark to the back thread, with a copy of the fault record as it is there.
void CudaStream::enqueue(Mark mark) {
  // the device may well go on
  std::optional<Fault> earlier_failure = std::exchange(failed_, std::nullopt);
  attempt(mark.ticket, [&] {
    if (recording_) return;  // a graph holds no marks
    if (!mark.block.data) {
      mark.pool = &from_front_;
      mark.block = from_front_.take(kRecordRoom);
    }
    const cudaEvent_t event = points_.take();
    check_cuda(cudaMemcpyAsync(mark.block.data, record_, sizeof(FaultRecord),
                               cudaMemcpyDeviceToHost, stream_),
               "cudaMemcpyAsync of the fault record");
    check_cuda(cudaEventRecord(event, stream_), "cudaEventRecord");
    mark.event = event;
  });
  if (earlier_failure) failed_ = std::move(earlier_failure);
  mark.fault = failed_;
  if (mark.last) marked_ = mark.ticket;
  {
    std::lock_guard<std::mutex> lock(queue_mutex_);
    marks_.push_back(std::move(mark));
  }
  marks_arrived_.notify_one();
}

void CudaStream::check(FaultSite site, const View& values) {
  uint32_t number = 0;
  {
    std::lock_guard<std::mutex> lock(queue_mutex_);
    const auto known = std::find(sites_.begin(), sites_.end(), site);
    number = static_cast<uint32_t>(known - sites_.begin());
    if (known == sites_.end()) sites_.push_back(site);
  }
  enqueue_check(*this, site, number, recording_ ? 0 : running_, values.as<int32_t>(),
                values.size());
}

void CudaStream::check_indices(const char* op, const char* argument, const View& indices,
                               int64_t slots) {
  check({FaultSite::Kind::indices, op, argument, slots}, indices);
}

void CudaStream::check_offsets(const char* op, const View& offsets, int64_t places) {
  check({FaultSite::Kind::offsets, op, "offsets", places}, offsets);
}

void CudaStream::check_targets(const char* op, const View& targets, int64_t classes) {
  check({FaultSite::Kind::targets, op, "targets", classes}, targets);
}

void CudaStream::upload_bytes(void* target, const void* source, int64_t bytes) {
  enqueue_upload(*this, target, source, bytes, false);
}

// ---- back thread

void CudaStream::back() {
  for (;;) {
    Mark mark;
    {
      std::unique_lock<std::mutex> lock(queue_mutex_);
      marks_arrived_.wait(lock, [this] { return front_is_done_ || !marks_.empty(); });
      if (marks_.empty()) return;
      mark = std::move(marks_.front());
      marks_.pop_front();
    }
    settle(mark);
  }
}

std::optional<Fault> CudaStream::fault_at(const Mark& mark) {
  if (!mark.event) return mark.fault;
  if (const cudaError_t status = cudaEventSynchronize(mark.event); status != cudaSuccess)
    return earlier(mark.fault, Fault{error_of(status, "cudaEventSynchronize"), mark.ticket});
  FaultRecord record;
  std::memcpy(&record, mark.block.data, sizeof(record));
  if (!record.raised) return mark.fault;
  std::lock_guard<std::mutex> lock(queue_mutex_);
  return earlier(mark.fault, Fault{error_of(sites_[record.site], record),
                                   record.ticket ? record.ticket : record.replay});
}

void CudaStream::settle(Mark& mark) {
  const std::optional<Fault> fault = fault_at(mark);
  if (!fault && mark.target && mark.bytes)
    std::memcpy(mark.target, mark.block.data + kRecordRoom, mark.bytes);
  if (mark.event) points_.give(mark.event);
  if (mark.block.data) mark.pool->give(mark.block);
  if (mark.action) mark.action();
  if (!mark.last) return;
  // before the work counts as done: who has waited may take down what this calls
  if (mark.finished) mark.finished(fault);
  complete(mark.ticket, fault);
}

}  // namespace ml::ML_CUDA_NAMESPACE
