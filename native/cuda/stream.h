#pragma once
// A CUDA device's stream, with two threads of its own. The launch thread takes work from a queue in
// order and launches it, so that the caller pays for no launch, and host data can be waited for in
// order. The completion thread waits for what the device has finished, and reports it.
//
// An index out of range is found by a kernel that raises the fault record on the device: every
// later kernel sees it and does nothing, until the host has told the caller and clears the record,
// in order (device/stream.h has the rules).
//
// The second half of the class is for operations: `void topk(CudaStream& stream, const TopK& args)`
// runs on the launch thread and enqueues, never waits.

#include <cuda_runtime.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "core/view.h"
#include "cuda/check.h"
#include "cuda/events.h"
#include "cuda/fault.cuh"
#include "cuda/fault_site.h"
#include "cuda/pinned.h"
#include "cuda/scratch.h"
#include "cuda/timer.h"
#include "device/stream.h"

namespace ml::ML_CUDA_NAMESPACE {

struct DeviceLimits {
  int multiprocessors = 1;
  int shared_per_block = 48 << 10;           // bytes, with the attribute that launch() sets
  int shared_per_multiprocessor = 48 << 10;  // bytes
};

class CudaStream final : public Stream {
 public:
  explicit CudaStream(int device);
  ~CudaStream() override;

  void write(void* target, const void* source, size_t bytes, bool fresh) override;
  void read(void* target, const void* source, size_t bytes, Completion done) override;
  std::optional<Fault> wait() override;
  void produce(void* target, size_t bytes, std::function<void(void*)> fill) override;
  void always(std::function<void()> action) override;

  void launch(const char* name, std::function<void(CudaStream&)> operation);

  // Everything launched between the two is recorded instead of run. The memory it uses must stay.
  // Reads and writes can't be recorded.
  void begin_capture();
  struct Graph;
  std::shared_ptr<Graph> end_capture();  // waits until all of it is recorded
  void abandon_capture();
  void replay(std::shared_ptr<Graph> graph);

  // ---- For operations

  cudaStream_t raw() const { return stream_; }
  Guard guard() const { return {record_}; }
  const DeviceLimits& limits() const { return limits_; }

  // Device memory of the current operation, aligned to 256 bytes, contents undefined. Reused in the
  // order of the stream.
  template <class T>
  T* scratch(int64_t count) {
    return static_cast<T*>(scratch_->allocate(count * static_cast<int64_t>(sizeof(T))));
  }

  // While a graph is recorded, `object` will live as long as the graph; else false.
  bool keep_with_graph(std::shared_ptr<void> object);

  // Enqueue the checks of what an operation is going to use as an address: the operation's kernels
  // are void if one fails. Every index must be -1 or in [0, slots): ERR_INDEX_RANGE names the first
  // that is not.
  void check_indices(const char* op, const char* argument, const View& indices, int64_t slots);
  // offsets[0] = 0, ascending, offsets[B] = entries
  void check_offsets(const char* op, const View& offsets, int64_t entries);
  // Every target must be -1 or in [0, classes).
  void check_targets(const char* op, const View& targets, int64_t classes);

 private:
  struct Work {
    const char* name = nullptr;                    // of an operation, in profiles
    std::function<void(CudaStream&)> operation{};  // void after a fault
    std::function<void(Ticket)> unconditional{};  // instead of an operation: runs after a fault too
  };
  // A point of the stream that the completion thread waits for, and what to do there.
  struct SyncPoint {
    Ticket ticket = 0;
    cudaEvent_t event = nullptr;  // null: the device can't be reached, nothing to wait for
    PinnedPool* pool = nullptr;
    PinnedPool::Block block;     // a copy of the fault record, then the data of a read or write
    std::optional<Fault> fault;  // known to the launch thread
    void* target = nullptr;      // host memory for the data of a read
    size_t bytes = 0;
    bool last = true;              // of its ticket
    std::function<void()> action;  // after a fault too
    Completion finished;
  };

  void push(Work work);
  void resume() override;
  void collect_times() override;
  void use_device() const;

  // Launch thread
  void launch_loop();
  bool next(Work& work);
  void perform(Work& work, Ticket ticket);
  void read_chunks(Ticket ticket, void* target, const void* source, size_t bytes,
                   const Completion& done);
  void produce_chunks(Ticket ticket, void* target, size_t bytes,
                      const std::function<void(void*)>& fill);
  void copy_to_device(void* target, const PinnedPool::Block& block, size_t bytes, bool fresh);
  void enqueue(SyncPoint point);
  void end_recording(Graph& graph);
  void check(FaultSite site, const View& values);

  // Runs `calls`, unless an earlier launch has failed. Keeps the error.
  template <class F>
  void attempt(Ticket ticket, F&& calls) {
    if (failed_) return;
    try {
      calls();
    } catch (const Error& error) {
      failed_ = Fault{error, ticket};
    } catch (const std::bad_alloc&) {
      failed_ = Fault{Error(Code::out_of_memory, "no memory for the bookkeeping of an operation."),
                      ticket};
    }
  }

  // Completion thread
  void completion_loop();
  void finish(SyncPoint& point);
  std::optional<Fault> fault_at(const SyncPoint& point);

  const int device_;
  DeviceLimits limits_;
  cudaStream_t stream_ = nullptr;
  FaultRecord* record_ = nullptr;  // on the device
  EventPool sync_events_, timing_events_;
  OperationTimer timer_;
  // two, so that neither thread waits for memory that is queued behind it
  PinnedPool caller_staging_, launch_staging_;

  // Launch thread
  std::unique_ptr<Scratch> scratch_;
  std::optional<Fault> failed_;  // a launch that failed, until it is acknowledged
  Ticket current_ = 0;           // the work that is being launched
  Ticket synced_ = 0;            // the newest work with a sync point
  std::shared_ptr<Graph> recording_;

  std::atomic<Ticket> pushed_{0};  // the newest work in the queue

  std::mutex queue_mutex_;  // guards what follows
  std::condition_variable work_pushed_, point_pushed_;
  std::deque<Work> queue_;
  std::deque<SyncPoint> points_;
  bool stop_ = false, launch_thread_done_ = false;
  std::vector<FaultSite> sites_;

  std::thread launch_thread_, completion_thread_;
};

// What was recorded, and what it uses.
struct CudaStream::Graph {
  Graph() = default;
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  std::unique_ptr<Scratch> scratch = std::make_unique<Scratch>();
  std::vector<std::shared_ptr<void>> kept;
};

}  // namespace ml::ML_CUDA_NAMESPACE
