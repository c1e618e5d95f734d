#pragma once
// A CUDA device's stream. Its own thread (the front) takes work from a queue in order and launches
// it, so that the caller pays for no launch and host data can be waited for in order; a second
// thread (the back) waits for what the device has finished and tells of it.
//
// An index out of range is found by a kernel that raises the fault record on the device: every
// later kernel sees it and does nothing, until the host has told the caller and clears the record,
// in order (device/stream.h has the rules).
//
// The lower half is for operations: `void topk(CudaStream& stream, const TopK& args)` runs on the
// front thread and enqueues, never waits.

#include <cuda_runtime.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
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
  int capability = 75;                       // 90 for sm_90
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

  // Everything launched between the two is recorded instead of run. What it works on must stay.
  // Reads and writes can't be recorded.
  void begin_capture();
  struct Graph;
  std::shared_ptr<Graph> end_capture();  // waits until all of it is recorded
  void abandon_capture();
  void replay(std::shared_ptr<Graph> graph);

  // For operations:

  cudaStream_t raw() const { return stream_; }
  Guard guard() const { return {record_}; }
  const DeviceLimits& limits() const { return limits_; }

  // Device memory of the current operation, aligned to 256 bytes, contents undefined. Reused in the
  // order of the stream.
  template <class T>
  T* scratch(int64_t count) {
    return static_cast<T*>(scratch_->take(count * static_cast<int64_t>(sizeof(T))));
  }

  // A copy of a small host table in scratch memory: carried by arguments of kernels, so it needs no
  // staging and can be recorded.
  template <class T>
  const T* upload(const T* host, int64_t count) {
    static_assert(std::is_trivially_copyable_v<T>);
    T* copy = scratch<T>(count);
    upload_bytes(copy, host, count * static_cast<int64_t>(sizeof(T)));
    return copy;
  }

  // While a graph is recorded, `object` will live as long as the graph; else false.
  bool keep_with_graph(std::shared_ptr<void> object);

  // Enqueue the checks of what an operation is going to use as an address: the operation's kernels
  // are void if one fails. Every index must be -1 or in [0, slots): ERR_INDEX_RANGE names the first
  // that is not.
  void check_indices(const char* op, const char* argument, const View& indices, int64_t slots);
  // offsets[0] = 0, ascending, offsets[B] = places
  void check_offsets(const char* op, const View& offsets, int64_t places);
  // Every target must be -1 or in [0, classes).
  void check_targets(const char* op, const View& targets, int64_t classes);

 private:
  void upload_bytes(void* target, const void* source, int64_t bytes);

  struct Work {
    const char* name = nullptr;                  // of an operation, in profiles
    std::function<void(CudaStream&)> operation;  // void after a fault
    std::function<void(Ticket)> in_any_case;
  };
  // A point of the stream that the back thread waits for, and what is to be done there.
  struct Mark {
    Ticket ticket = 0;
    cudaEvent_t event = nullptr;  // null: nothing to wait for, the device can't be reached
    PinnedPool* pool = nullptr;
    PinnedPool::Block block;     // a copy of the fault record, then the data of a read or write
    std::optional<Fault> fault;  // that the front thread knows of
    void* target = nullptr;      // where the host wants what was read
    size_t bytes = 0;
    bool last = true;              // of its ticket
    std::function<void()> action;  // in any case
    Completion finished;
  };

  void push(Work work);
  void resume() override;
  void collect_times() override;
  bool next(Work& work);
  void front();
  void perform(Work& work, Ticket ticket);
  template <class F>
  void attempt(Ticket ticket, F&& calls);
  void read_pieces(Ticket ticket, void* target, const void* source, size_t bytes,
                   const Completion& done);
  void put(void* target, const PinnedPool::Block& block, size_t bytes, bool fresh);
  void enqueue(Mark mark);

  void back();
  void settle(Mark& mark);
  std::optional<Fault> fault_at(const Mark& mark);

  void end_recording(Graph& graph);
  void check(FaultSite site, const View& values);
  void use_device() const;

  const int device_;
  DeviceLimits limits_;
  cudaStream_t stream_ = nullptr;
  FaultRecord* record_ = nullptr;  // on the device
  EventPool points_, times_;
  OperationTimer timer_;
  // two, so that neither thread waits for memory that is queued behind it
  PinnedPool from_caller_, from_front_;

  // Front thread
  std::unique_ptr<Scratch> scratch_;
  std::optional<Fault> failed_;  // a launch that failed, until it is acknowledged
  Ticket running_ = 0;           // the work that is being launched
  Ticket marked_ = 0;            // the newest work with a mark
  std::shared_ptr<Graph> recording_;

  std::atomic<Ticket> pushed_{0};  // what the front thread may take

  std::mutex queue_mutex_;  // guards what follows
  std::condition_variable arrived_, marks_arrived_;
  std::deque<Work> queue_;
  std::deque<Mark> marks_;
  bool stop_ = false, front_is_done_ = false;
  std::vector<FaultSite> sites_;

  std::thread front_thread_, back_thread_;
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
