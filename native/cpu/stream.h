#pragma once
// The CPU's stream: a queue whose work runs in order over the thread pool, started by the stream's
// own thread or by the one that waits for it.

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "cpu/context.h"
#include "device/stream.h"

namespace ml::cpu {

class CpuStream final : public Stream {
 public:
  explicit CpuStream(int threads);
  ~CpuStream() override;

  void write(void* target, const void* source, size_t bytes, OutcomePtr outcome,
             bool fresh) override;
  void read(void* target, const void* source, size_t bytes, OutcomePtr outcome,
            Completion done) override;
  void wait() override;
  void produce(void* target, size_t bytes, OutcomePtr outcome, Producer fill) override;
  void always(std::function<void()> action) override;

  void launch(WorkPtr work) noexcept override;
  void hold(bool holding) noexcept override;

 private:
  void push_held() noexcept;
  void run_next();
  template <class F>
  void run_taken(std::unique_lock<std::mutex>& lock, const F& go_on);
  void run_queue_on_caller();
  void loop();
  bool spin_and_join(const std::function<bool()>& done);
  void perform(Work& work, Ticket ticket);
  void run_kernel(Work& work, Ticket ticket);

  // What different threads write is in cache lines of its own.

  // Used only by the caller's thread
  alignas(kCacheLine) WorkList held_;  // with tickets, not in the queue yet
  bool holding_ = false;

  // Used only by the thread that runs work
  alignas(kCacheLine) KernelContext context_;
  WorkList taken_;  // from the queue
  // Written under queue_mutex_
  std::atomic<bool> running_{false};            // a thread runs what it took from the queue
  std::atomic<bool> caller_runs_queue_{false};  // and the stream's thread starts none

  alignas(kCacheLine) std::mutex queue_mutex_;  // guards what follows
  WorkList queue_;
  std::atomic<Ticket> pushed_{0};         // the newest work in the queue
  bool stop_ = false, sleeping_ = false;  // sleeping_: the stream's thread is to be woken
  std::condition_variable work_available_;
  std::condition_variable between_work_;  // the stream's thread has finished what it was running

  std::thread thread_;
};

}  // namespace ml::cpu
