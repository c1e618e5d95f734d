#pragma once
// The CPU's stream: one thread that takes work from a queue in order and runs it over the thread pool.

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "cpu/context.h"
#include "device/stream.h"

namespace ml::cpu {

class CpuStream final : public Stream {
 public:
  explicit CpuStream(int threads);
  ~CpuStream() override;

  void write(void* target, const void* source, size_t bytes, bool fresh) override;
  void read(void* target, const void* source, size_t bytes, Completion done) override;
  std::optional<Fault> wait() override;
  void produce(void* target, size_t bytes, std::function<void(void*)> fill) override;
  void always(std::function<void()> action) override;
  Ticket submitted() const override { return submitted_; }
  Ticket completed() const override { return completed_.load(std::memory_order_acquire); }
  void acknowledge(Ticket first) override;
  bool faulted() const override;

  std::vector<OperationTime> take_times() override;

  void launch(const char* name, std::function<void(Context&)> kernel);

 private:
  struct Work {
    const char* name;
    std::function<void(Context&)> kernel;  // skipped when void
    std::function<void()> always;          // run in any case
    Completion finished;                   // told of the fault
  };
  void push(Work work);
  void loop();
  std::optional<Fault> perform(Work& work, Ticket ticket);

  Context context_;
  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::condition_variable done_;
  std::deque<Work> queue_;
  bool stop_ = false;
  Ticket submitted_ = 0;                // caller's thread
  std::atomic<Ticket> pushed_{0};       // what the stream's thread may take
  std::atomic<Ticket> completed_{0};
  std::optional<Fault> fault_;          // guarded by mutex_
  Ticket runs_again_after_ = 0;         // 0: not acknowledged yet
  std::vector<OperationTime> times_;    // guarded by mutex_
  std::thread thread_;
};

}  // namespace ml::cpu
