#include "cpu/stream.h"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <utility>

#include "cpu/spin.h"

namespace ml::cpu {

CpuStream::CpuStream(int threads) : context_(threads), thread_([this] { loop(); }) {}

CpuStream::~CpuStream() {
  {
    std::lock_guard<std::mutex> lock(queue_mutex_);
    stop_ = true;
  }
  arrived_.notify_one();
  thread_.join();
}

void CpuStream::push(Work work) {
  {
    std::lock_guard<std::mutex> lock(queue_mutex_);
    queue_.push_back(std::move(work));
    pushed_.store(next_ticket(), std::memory_order_release);
  }
  arrived_.notify_one();
}

void CpuStream::launch(const char* name, std::function<void(Context&)> kernel) {
  push({name, std::move(kernel), nullptr, nullptr});
}

void CpuStream::always(std::function<void()> action) {
  push({nullptr, nullptr, std::move(action), nullptr});
}

void CpuStream::write(void* target, const void* source, size_t bytes, bool fresh) {
  if (bytes == 0) return;
  if (fresh || (completed() == submitted() && !faulted())) {
    std::memcpy(target, source, bytes);
    return;
  }
  std::shared_ptr<void> staged(std::malloc(bytes), std::free);
  if (!staged)
    throw Error(Code::out_of_memory,
                "write: no memory to stage " + std::to_string(bytes) + " bytes.");
  std::memcpy(staged.get(), source, bytes);
  launch("write", [=](Context&) { std::memcpy(target, staged.get(), bytes); });
}

void CpuStream::read(void* target, const void* source, size_t bytes, Completion done) {
  push({"read",
        [=](Context&) {
          if (bytes) std::memcpy(target, source, bytes);
        },
        nullptr, std::move(done)});
}

std::optional<Fault> CpuStream::wait() {
  run_here();
  Waiting::expect();  // who waits once soon waits again
  return wait_for_submitted();
}

void CpuStream::produce(void* target, size_t, std::function<void(void*)> fill) {
  launch("transfer", [target, fill = std::move(fill)](Context&) { fill(target); });
}

void CpuStream::resume() {
  always([this] { failed_.reset(); });
}

// Runs one piece of work, or leaves it out if a fault makes it void.
void CpuStream::perform(Work& work, Ticket ticket) {
  if (work.always) work.always();
  if (failed_ || !work.kernel) return;
  const auto start = std::chrono::steady_clock::now();
  try {
    work.kernel(context_);
  } catch (const Error& error) {
    failed_ = Fault{error, ticket};
  } catch (const std::bad_alloc&) {
    failed_ = Fault{
        Error(Code::out_of_memory, "cpu: no memory for the bookkeeping of an operation."), ticket};
  }
  context_.reset_scratch();
  operation_times_.add(
      work.name, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
}

// Takes the first of the queue, which is not empty, and runs it. The lock is held before and after,
// not meanwhile.
void CpuStream::run_next(std::unique_lock<std::mutex>& lock) {
  {
    Work work = std::move(queue_.front());
    queue_.pop_front();
    running_.store(true, std::memory_order_relaxed);
    lock.unlock();
    const Ticket ticket = completed() + 1;
    perform(work, ticket);
    // before the work counts as done: who has waited may take down what this calls
    if (work.finished) work.finished(failed_);
    complete(ticket, failed_);
  }
  lock.lock();
  running_.store(false, std::memory_order_release);
}

// Awake for a while, to see whether done() comes to hold; helps with runs as long as there are any.
// Returns done().
bool CpuStream::look_until(const std::function<bool()>& done) {
  std::optional<Waiting> self;
  if (context_.threads() > 1) self.emplace();
  bool helped;
  do {
    helped = false;
    spin_until([&] { return done() || (helped = self && self->help(done)); });
  } while (helped);
  return done();
}

void CpuStream::loop() {
  std::unique_lock<std::mutex> lock(queue_mutex_);
  const std::function<bool()> has_work = [this] {
    return !taken_over_.load(std::memory_order_relaxed) &&
           pushed_.load(std::memory_order_acquire) != completed();
  };
  for (;;) {
    arrived_.wait(lock, [this] { return stop_ || !queue_.empty(); });
    if (queue_.empty()) return;
    for (bool awake = true; awake;) {
      if (has_work()) {
        run_next(lock);
        if (taken_over_) handed_over_.notify_one();
        continue;
      }
      lock.unlock();
      awake = look_until(has_work);
      lock.lock();
    }
    if (taken_over_) arrived_.wait(lock, [this] { return stop_ || !taken_over_; });
  }
}

// Who waits has nothing else to do, and is awake: it runs what is left of the queue, since a thread
// takes longer to wake than a small operation to run. The stream's own thread finishes what it is
// at, and is helped with it; then, or if it is on its way, it helps.
void CpuStream::run_here() {
  std::unique_lock<std::mutex> lock(queue_mutex_);
  taken_over_ = true;
  if (running_.load(std::memory_order_relaxed)) {
    lock.unlock();
    look_until([this] { return !running_.load(std::memory_order_acquire); });
    lock.lock();
    handed_over_.wait(lock, [this] { return !running_.load(std::memory_order_relaxed); });
  }
  if (!queue_.empty()) Waiting::expect();
  while (!queue_.empty()) run_next(lock);
  taken_over_ = false;
}

}  // namespace ml::cpu
