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

void CpuStream::push(Work work) {
  {
    std::lock_guard<std::mutex> lock(queue_mutex_);
    queue_.push_back(std::move(work));
    pushed_.store(next_ticket(), std::memory_order_release);
  }
  work_available_.notify_one();
}

void CpuStream::launch(const char* name, std::function<void(KernelContext&)> kernel,
                       OutcomePtr outcome) {
  push({.name = name, .kernel = std::move(kernel), .outcome = std::move(outcome)});
}

void CpuStream::always(std::function<void()> action) { push({.always = std::move(action)}); }

void CpuStream::write(void* target, const void* source, size_t bytes, OutcomePtr outcome,
                      bool fresh) {
  if (fresh || bytes == 0 || completed() == submitted()) {
    if (bytes) std::memcpy(target, source, bytes);
    outcome->settle(nullptr);
    return;
  }
  launch(
      "write",
      [target, bytes, staged = stage(source, bytes)](KernelContext&) {
        std::memcpy(target, staged.get(), bytes);
      },
      std::move(outcome));
}

void CpuStream::read(void* target, const void* source, size_t bytes, OutcomePtr outcome,
                     Completion done) {
  push({.name = "read",
        .kernel =
            [=](KernelContext&) {
              if (bytes) std::memcpy(target, source, bytes);
            },
        .outcome = std::move(outcome),
        .finished = std::move(done)});
}

void CpuStream::wait() {
  run_queue_on_caller();
  WaitingThread::expect();  // a caller that reads one result at a time soon waits again
  wait_for_submitted();
}

void CpuStream::produce(void* target, size_t, OutcomePtr outcome, Producer fill) {
  launch(
      "transfer",
      [this, target, outcome, fill = std::move(fill)](KernelContext&) {
        if (FaultPtr fault = fill(target)) {
          found(completed() + 1, fault);
          outcome->settle(std::move(fault));
        }
      },
      outcome);
}

void CpuStream::run_kernel(Work& work, Ticket ticket) {
  const auto start = std::chrono::steady_clock::now();
  try {
    work.kernel(context_);
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
  if (work.always) work.always();
  if (!work.kernel) return;
  if (FaultPtr fault = work.outcome->inherited())
    work.outcome->settle(std::move(fault));
  else
    run_kernel(work, ticket);
}

// Pops the first item of the queue, which is not empty, and runs it. The lock is held before and
// after, not while the work runs.
void CpuStream::run_next(std::unique_lock<std::mutex>& lock) {
  {
    Work work = std::move(queue_.front());
    queue_.pop_front();
    running_.store(true, std::memory_order_relaxed);
    lock.unlock();
    const Ticket ticket = completed() + 1;
    perform(work, ticket);
    // before the work counts as done: after wait() the caller may destroy what this uses
    if (work.finished) work.finished(work.outcome->fault());
    complete(ticket);
  }
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
  const std::function<bool()> has_work = [this] {
    return !caller_runs_queue_.load(std::memory_order_relaxed) &&
           pushed_.load(std::memory_order_acquire) != completed();
  };
  for (;;) {
    work_available_.wait(lock, [this] { return stop_ || !queue_.empty(); });
    if (queue_.empty()) return;
    for (bool spinning = true; spinning;) {
      if (has_work()) {
        run_next(lock);
        if (caller_runs_queue_) between_work_.notify_one();
        continue;
      }
      lock.unlock();
      spinning = spin_and_join(has_work);
      lock.lock();
    }
    if (caller_runs_queue_)
      work_available_.wait(lock, [this] { return stop_ || !caller_runs_queue_; });
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
  if (!queue_.empty()) WaitingThread::expect();
  while (!queue_.empty()) run_next(lock);
  caller_runs_queue_ = false;
}

}  // namespace ml::cpu
