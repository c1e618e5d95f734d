#include "cpu/stream.h"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <utility>

#include "core/thread.h"
#include "cpu/spin.h"
#include "cpu/thread_pool.h"

namespace ml::cpu {
namespace {

// What the stream does itself.
template <class F>
class Function final : public Work {
 public:
  Function(const char* called, OutcomePtr settled, F f, Stream::Completion finished = nullptr)
      : f_(std::move(f)), finished_(std::move(finished)) {
    name = called;
    outcome = std::move(settled);
  }
  void run(void*) override { f_(); }
  void finish(const FaultPtr& fault) override {
    if (finished_) finished_(fault);
  }

 private:
  F f_;
  Stream::Completion finished_;
};

class Always final : public Work {
 public:
  explicit Always(std::function<void()> action) : action_(std::move(action)) {}
  void finish(const FaultPtr&) override { action_(); }

 private:
  std::function<void()> action_;
};

}  // namespace

CpuStream::CpuStream(int threads)
    : context_(threads),
      thread_(start_thread("ml-stream", "the stream's thread", [this] { loop(); })) {}

CpuStream::~CpuStream() {
  {
    std::lock_guard<std::mutex> lock(queue_mutex_);
    stop_ = true;
  }
  work_available_.notify_one();
  thread_.join();
}

void CpuStream::launch(WorkPtr work) noexcept {
  next_ticket();
  held_.push(std::move(work));
  if (!holding_) push_held();
}

void CpuStream::hold(bool holding) noexcept {
  holding_ = holding;
  if (!holding && !held_.empty()) push_held();
}

// One lock for all of it, which the stream's thread also wants.
void CpuStream::push_held() noexcept {
  bool wake;
  {
    std::lock_guard<std::mutex> lock(queue_mutex_);
    queue_.append(held_);
    pushed_.store(submitted(), std::memory_order_release);
    wake = sleeping_;
    if (wake) sleeping_ = false;
  }
  if (wake) work_available_.notify_one();
}

void CpuStream::always(std::function<void()> action) {
  launch(WorkPtr(new (*work_memory_) Always(std::move(action))));
}

void CpuStream::write(void* target, const void* source, size_t bytes, OutcomePtr outcome,
                      bool fresh) {
  if (fresh || bytes == 0 || completed() == submitted()) {
    if (bytes) std::memcpy(target, source, bytes);
    outcome->settle(nullptr);
    return;
  }
  launch(WorkPtr(new (*work_memory_) Function("write", std::move(outcome),
                                              [target, bytes, staged = stage(source, bytes)] {
                                                std::memcpy(target, staged.get(), bytes);
                                              })));
}

void CpuStream::read(void* target, const void* source, size_t bytes, OutcomePtr outcome,
                     Completion done) {
  launch(WorkPtr(new (*work_memory_) Function(
      "read", std::move(outcome),
      [=] {
        if (bytes) std::memcpy(target, source, bytes);
      },
      std::move(done))));
}

void CpuStream::wait() {
  hold(false);
  run_queue_on_caller();
  WaitingThread::expect();  // a caller that reads one result at a time soon waits again
  wait_for_submitted();
}

void CpuStream::produce(void* target, size_t, OutcomePtr outcome, Producer fill) {
  launch(WorkPtr(new (*work_memory_)
                     Function("transfer", outcome, [this, target, outcome, fill = std::move(fill)] {
                       if (FaultPtr fault = fill(target)) {
                         found(completed() + 1, fault);
                         outcome->settle(std::move(fault));
                       }
                     })));
}

void CpuStream::run_kernel(Work& work, Ticket ticket) {
  const auto start = std::chrono::steady_clock::now();
  try {
    work.run(&context_);
    work.outcome->settle(nullptr);
  } catch (const Error& error) {
    work.outcome->settle(fail(error, ticket));
  } catch (const std::bad_alloc&) {
    work.outcome->settle(
        fail(Error::without_memory(Code::out_of_memory,
                                   "no memory for the bookkeeping of an operation."),
             ticket));
  }
  context_.reset_scratch();
  operation_times_.add(
      work.name, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
}

// Runs one item of the queue, or skips it if what it depends on is void.
void CpuStream::perform(Work& work, Ticket ticket) {
  if (!work.outcome) return;
  if (FaultPtr fault = work.outcome->inherited())
    work.outcome->settle(std::move(fault));
  else
    run_kernel(work, ticket);
}

void CpuStream::run_next() {
  const WorkPtr work = taken_.pop();
  const Ticket ticket = completed() + 1;
  perform(*work, ticket);
  // before the work counts as done: after wait() the caller may destroy what this uses
  work->finish(work->outcome ? work->outcome->fault() : nullptr);
  complete(ticket);
}

// Runs what is in the queue until go_on() says no, and without the lock, which is held before and
// after.
template <class F>
void CpuStream::run_taken(std::unique_lock<std::mutex>& lock, const F& go_on) {
  running_.store(true, std::memory_order_relaxed);
  taken_.append(queue_);
  lock.unlock();
  while (!taken_.empty() && go_on()) run_next();
  lock.lock();
  running_.store(false, std::memory_order_release);
}

// Spins until done() holds or the time is up, and joins the runs there are meanwhile; after each
// the time begins anew. Returns done().
bool CpuStream::spin_and_join(const std::function<bool()>& done) {
  std::optional<WaitingThread> self;
  if (context_.threads() > 1) self.emplace();
  bool joined;
  do {
    joined = false;
    spin_until([&] { return done() || (joined = self && self->join_run(done)); });
  } while (joined);
  return done();
}

void CpuStream::loop() {
  std::unique_lock<std::mutex> lock(queue_mutex_);
  const auto sleep_until = [&](const auto& done) {
    while (!done()) {
      sleeping_ = true;
      work_available_.wait(lock);
    }
    sleeping_ = false;
  };
  const std::function<bool()> has_work = [this] {
    return !caller_runs_queue_.load(std::memory_order_relaxed) &&
           pushed_.load(std::memory_order_acquire) != completed();
  };
  for (;;) {
    sleep_until([this] { return stop_ || !queue_.empty(); });
    if (queue_.empty()) return;
    for (bool spinning = true; spinning;) {
      if (has_work()) {
        run_taken(lock, [this] { return !caller_runs_queue_.load(std::memory_order_relaxed); });
        if (caller_runs_queue_) between_work_.notify_one();
        continue;
      }
      lock.unlock();
      spinning = spin_and_join(has_work);
      lock.lock();
    }
    if (caller_runs_queue_) sleep_until([this] { return stop_ || !caller_runs_queue_; });
  }
}

// The thread that waits runs what is left of the queue itself: a small operation takes less time
// than the waking of the stream's thread. If that is running work, this thread joins its runs until
// it has finished; from then on the stream's thread may join the runs of this one.
void CpuStream::run_queue_on_caller() {
  std::unique_lock<std::mutex> lock(queue_mutex_);
  caller_runs_queue_ = true;
  if (running_.load(std::memory_order_relaxed)) {
    lock.unlock();
    spin_and_join([this] { return !running_.load(std::memory_order_acquire); });
    lock.lock();
    between_work_.wait(lock, [this] { return !running_.load(std::memory_order_relaxed); });
  }
  if (!queue_.empty() || !taken_.empty()) WaitingThread::expect();
  while (!queue_.empty() || !taken_.empty()) run_taken(lock, [] { return true; });
  caller_runs_queue_ = false;
}

}  // namespace ml::cpu
