#pragma once
// A CUDA device's stream, with two threads of its own. The launch thread takes work from a queue in
// order and launches it, so that the caller pays for no launch, and host data can be waited for in
// order. The completion thread waits for what the device has finished, and reports it.
//
// An index out of range is found by a kernel, a check, which has a bit in device memory until the
// host knows its result. A kernel is launched with the bits of the checks that its work depends on,
// and does nothing if one of them has failed (cuda/fault.cuh). The host settles the outcomes of
// work at sync points. It then drops the bits of the checks up to there from all outcomes: those
// that had the bit of a failed check are void, and work launched later needs no bit for them. So
// the bit can be cleared, in order, and used again.
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
#include <utility>
#include <vector>

#include "core/limits.h"
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
  int l2 = 0;                                // bytes
};

class CudaStream final : public Stream {
 public:
  explicit CudaStream(int device);
  ~CudaStream() override { end(); }

  void write(void* target, const void* source, size_t bytes, OutcomePtr outcome,
             bool fresh) override;
  void read(void* target, const void* source, size_t bytes, OutcomePtr outcome,
            Completion done) override;
  void wait() override;
  void produce(void* target, size_t bytes, OutcomePtr outcome, Producer fill) override;
  void always(std::function<void()> action) override;
  void when_memory_is_short(std::function<void(Ticket)> release) override {
    release_memory_ = std::move(release);
  }
  int64_t scratch() const override { return scratch_use_->bytes; }

  void launch(WorkPtr work) noexcept override;

  // As a graph, one launch, where that does the same.
  void replay(const std::shared_ptr<Program>& program,
              const std::vector<OutcomePtr>& outcomes) override;

  // ---- For operations

  cudaStream_t raw() const { return stream_; }
  Guard guard() const { return {checks_, work_checks_}; }
  const DeviceLimits& limits() const { return limits_; }

  // Device memory of the current operation, aligned to 256 bytes, contents undefined. Reused in the
  // order of the stream.
  template <class T>
  T* scratch(int64_t count) {
    return static_cast<T*>(scratch_->allocate(scratch_size(count, sizeof(T))));
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
  // *none, on the device, must be 0: it is 1 where every target is to be ignored.
  void check_some_target(const char* op, const int32_t* none);
  // Every float32 number must be finite; ERR_VALUE names `what` and the step.
  void check_finite(const char* what, const View& x, int64_t step);

 private:
  // Work whose outcome is settled at the next sync point.
  struct Launched {
    Ticket ticket;
    OutcomePtr outcome;
    uint32_t check = kChecks;        // the bit of its own checks; kChecks: none
    std::vector<FaultSite> sites{};  // of its own checks
  };
  // A point of the stream that the completion thread waits for, and what to do there.
  struct SyncPoint {
    Ticket ticket = 0;
    cudaEvent_t event = nullptr;  // null: the device can't be reached, nothing to wait for
    PinnedPool* pool = nullptr;
    PinnedPool::Block block;  // a copy of the check state, then the data of a read or write
    FaultPtr fault;           // the device can't be reached
    void* target = nullptr;   // host memory for the data of a read
    size_t bytes = 0;
    bool last = true;    // of its ticket
    OutcomePtr outcome;  // of a read
    std::function<void()> action;
    Completion finished;
  };

  struct Graph;
  struct Unconditional;

  void launch_own(const char* name, std::function<void(CudaStream&)> operation, OutcomePtr outcome);
  void launch_unconditional(std::function<void(Ticket)> action);
  void collect_times() override;
  void make_room();
  void start();
  void end() noexcept;

  // Launch thread
  void write_chunks(Ticket ticket, void* target, size_t bytes, const OutcomePtr& outcome,
                    const std::vector<PinnedPool::Block>& blocks);
  void launch_loop();
  WorkPtr next();
  void run_work(Work& work, const OutcomePtr& outcome);
  void run_named(Work& work);
  void run_program(Program& program, const std::vector<OutcomePtr>& outcomes);
  std::shared_ptr<Graph> make_graph(const Program& program);
  void make_checks(Graph& graph);
  void record_steps(const Program& program);
  void record_step(const Program& program, size_t i);
  uint32_t recorded_check();
  bool depends_on_no_check(const std::vector<OutcomePtr>& outcomes);
  CheckMap take_checks(uint32_t count);
  void add_launched(const Graph& graph, const CheckMap& map,
                    const std::vector<OutcomePtr>& outcomes);
  void launch_graph(const Graph& graph, const std::vector<OutcomePtr>& outcomes);
  void read_chunks(Ticket ticket, void* target, const void* source, size_t bytes,
                   const OutcomePtr& outcome, const Completion& done);
  void produce_chunks(Ticket ticket, void* target, size_t bytes, const OutcomePtr& outcome,
                      const Producer& fill);
  void copy_to_device(void* target, const PinnedPool::Block& block, size_t bytes);
  bool begin(const OutcomePtr& outcome, Ticket ticket);
  bool take_check();
  void depend_on(uint32_t check);
  void enqueue(SyncPoint point);
  void enqueue_if_due();
  void check(FaultSite site, const View& values);
  void check(FaultSite site, const int32_t* values, int64_t count);

  // Runs `calls`; returns the fault.
  template <class F>
  FaultPtr attempt(Ticket ticket, F&& calls) {
    try {
      calls();
    } catch (const Error& error) {
      return fail(error, ticket);
    } catch (const std::bad_alloc&) {
      return fail(Error::without_memory(Code::out_of_memory,
                                        "no memory for the bookkeeping of an operation."),
                  ticket);
    }
    return nullptr;
  }
  void settle(Outcome& outcome, FaultPtr fault);

  // Completion thread
  void completion_loop();
  void finish(SyncPoint& point);
  void settle_launched(const SyncPoint& point, const FaultPtr& unreachable);
  bool read_is_sound(const SyncPoint& point);

  const int device_;
  DeviceLimits limits_;
  cudaStream_t stream_ = nullptr;
  StreamState* checks_ = nullptr;  // on the device
  EventPool sync_events_, timing_events_;
  OperationTimer timer_;
  // two, so that neither thread waits for memory that is queued behind it
  PinnedPool caller_staging_, launch_staging_;

  std::function<void(Ticket)> release_memory_;
  const std::shared_ptr<ScratchUse> scratch_use_ = std::make_shared<ScratchUse>();

  // Launch thread
  std::unique_ptr<Scratch> scratch_;
  uint32_t work_checks_ = 0;          // of the work that is being launched
  Launched* launching_ = nullptr;     // that work
  Ticket current_ = 0;                // and its ticket
  Ticket synced_ = 0;                 // the newest work with a sync point
  int unsynced_checks_ = 0;           // since then
  std::shared_ptr<Graph> recording_;  // that is made from a program
  size_t recorded_step_ = 0;

  std::atomic<Ticket> pushed_{0};  // the newest work in the queue

  std::mutex queue_mutex_;  // guards what follows
  std::condition_variable work_pushed_, point_pushed_;
  WorkList queue_;
  std::deque<SyncPoint> points_;
  bool stop_ = false, launch_thread_done_ = false;

  std::mutex outcomes_mutex_;  // guards what follows, and the outcomes that are not settled
  std::condition_variable checks_freed_;
  std::deque<Launched> launched_;      // in the order of their tickets
  uint32_t free_checks_ = kAllChecks;  // bits
  uint32_t failed_checks_ = 0;         // of free checks, those whose bit is still set on the device

  std::thread launch_thread_, completion_thread_;
};

// Work that runs whatever is void.
struct CudaStream::Unconditional final : Work {
  explicit Unconditional(std::function<void(Ticket)> f) : action(std::move(f)) {}
  const std::function<void(Ticket)> action;
};

// A program as a graph, and what it uses.
struct CudaStream::Graph {
  struct Step {
    uint32_t checks = 0;             // that it depends on, as bits of the graph's
    uint32_t check = kChecks;        // its own; kChecks: none
    std::vector<FaultSite> sites{};  // of its own
  };

  Graph(int on, std::shared_ptr<ScratchUse> use)
      : device(on), scratch(std::make_unique<Scratch>(std::move(use))) {}
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  const int device;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  StreamState* checks = nullptr;  // on the device
  std::unique_ptr<Scratch> scratch;
  std::vector<std::shared_ptr<void>> kept;
  std::vector<Step> steps;
  uint32_t check_count = 0;
};

}  // namespace ml::ML_CUDA_NAMESPACE
