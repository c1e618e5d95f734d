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

  void launch(const char* name, std::function<void(Context&)> kernel);

 private:
  struct Work {
    const char* name;
    std::function<void(Context&)> kernel;  // skipped when void
    std::function<void()> always;          // run in any case
    Completion finished;                   // told of the fault
  };
  void push(Work work);
  void resume() override;
  void loop();
  void perform(Work& work, Ticket ticket);

  // The stream's thread
  Context context_;
  std::optional<Fault> failed_;  // makes work void, until it is acknowledged

  std::atomic<Ticket> pushed_{0};  // what the stream's thread may take

  std::mutex queue_mutex_;  // guards what follows
  std::condition_variable arrived_;
  std::deque<Work> queue_;
  bool stop_ = false;

  std::thread thread_;
};

}  // namespace ml::cpu
