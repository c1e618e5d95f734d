#include "cpu/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <new>
#include <optional>
#include <thread>

#include "core/thread.h"
#include "cpu/placement.h"
#include "cpu/run_state.h"
#include "cpu/spin.h"
#include "cpu/work_range.h"

namespace ml::cpu {
namespace {

using Clock = std::chrono::steady_clock;

// After this time workers that have not entered the run are late.
constexpr std::chrono::microseconds kLate{20};
// After the system has refused a thread, runs go on with fewer for this time.
constexpr std::chrono::milliseconds kRefused{100};
// For this time after WaitingThread::expect() runs reserve their last worker.
constexpr std::chrono::microseconds kExpected{60};

class Pool {
 public:
  // The caller's side of a run.
  void run(int threads, int64_t n, int64_t grain, RangeBody body) {
    const int64_t tasks = (n + grain - 1) / grain;
    int last = static_cast<int>(std::min<int64_t>({threads - 1, tasks - 1, RunState::kMaxWorkers}));
    std::unique_lock<std::mutex> lock(in_use_, std::defer_lock);
    const bool alone = last <= 0 || tasks > WorkRange::kMaxTasks || inside_run_ || !lock.try_lock();
    if (!alone) last = std::min(last, start_threads(last));
    if (alone || last == 0) {
      for (int64_t t = 0; t < tasks; ++t)
        body.call(body.object, t * grain, std::min(n, (t + 1) * grain), 0);
      return;
    }
    body_ = body;
    n_ = n;
    grain_ = grain;
    workers_ = last + 1;
    for (int w = 0; w < workers_; ++w)
      ranges_[w].assign(tasks * w / workers_, tasks * (w + 1) / workers_);

    const auto start = Clock::now();
    const uint32_t epoch = epoch_.load(std::memory_order_relaxed) + 1;
    const bool reserved = waiting_threads_.load(std::memory_order_relaxed) > 0 ||
                          start - expected_since_.load(std::memory_order_relaxed) < kExpected;
    state_.begin(epoch, last, reserved);
    if (last > 1 || !reserved) wake_workers(epoch);
    inside_run_ = true;
    bool handled_late = false;
    while (run_task(0)) {
      if (handled_late || Clock::now() - start < kLate) continue;
      handled_late = true;
      handle_late_workers(epoch, last, reserved);
    }
    inside_run_ = false;
    // Every task has been popped or stolen: late workers stay out, those inside finish theirs.
    state_.close();
    const auto idle = [this] { return state_.is_idle(); };
    spin_until(idle);
    while (!idle()) std::this_thread::yield();
  }

  // The joiner's side of a run.
  bool join_run(const std::function<bool()>& done) {
    if (!state_.try_join()) return false;
    inside_run_ = true;
    while (run_task(workers_ - 1) && !done()) continue;
    inside_run_ = false;
    state_.leave();
    return true;
  }

  void add_waiting_threads(int count) {
    waiting_threads_.fetch_add(count, std::memory_order_relaxed);
  }
  void expect_waiting_thread() { expected_since_.store(Clock::now(), std::memory_order_relaxed); }

 private:
  // The side of a thread of the pool. `seen` is the newest epoch it has been woken for.
  void worker_loop(int worker, uint32_t seen) {
    inside_run_ = true;
    WorkerState& self = worker_states_[worker - 1];
    self.register_thread();
    for (;;) {
      spin_until([&] {
        self.publish_cpu();
        return epoch_.load(std::memory_order_acquire) != seen;
      });
      self.publish_sleep();
      epoch_.wait(seen, std::memory_order_acquire);
      seen = epoch_.load(std::memory_order_acquire);
      if (!state_.try_enter(seen, worker)) continue;
      self.acknowledge(seen);
      while (run_task(worker)) continue;
      state_.leave();
    }
  }

  // Returns how many threads the pool has: fewer than `count` where the system refuses one, and
  // then it isn't asked again for a while.
  int start_threads(int count) noexcept {
    if (started_ >= count || Clock::now() < refused_until_) return started_;
    try {
      for (; started_ < count; ++started_)
        start_thread(
            "ml-pool", "a thread of the pool",
            [this, worker = started_ + 1, seen = epoch_.load()] { worker_loop(worker, seen); })
            .detach();
    } catch (const std::exception&) {
      refused_until_ = Clock::now() + kRefused;
    }
    return started_;
  }

  void wake_workers(uint32_t epoch) {
    epoch_.store(epoch, std::memory_order_release);
    epoch_.notify_all();
  }

  // At most once in a run. A joiner that has not come loses its reservation. If it was to be the
  // only worker besides the caller, the pool's thread is woken now; workers that were woken before
  // and have not entered may be queued on the caller's core.
  void handle_late_workers(uint32_t epoch, int last, bool reserved) {
    const bool unclaimed = state_.cancel_reservation();
    if (reserved && unclaimed && last == 1)
      wake_workers(epoch);
    else
      migrate_late_workers(worker_states_, reserved ? last - 1 : last, epoch);
  }

  // Runs the next task of the worker's own range or, if that is empty, one stolen from the tail of
  // a victim's. False if no task is left.
  bool run_task(int worker) {
    std::optional<int64_t> task = ranges_[worker].pop_front();
    for (int i = 1; !task && i < workers_; ++i) {
      const int victim = worker + i < workers_ ? worker + i : worker + i - workers_;
      task = ranges_[victim].steal_tail();
    }
    if (!task) return false;
    const int64_t begin = *task * grain_;
    body_.call(body_.object, begin, std::min(n_, begin + grain_), worker);
    return true;
  }

  std::mutex in_use_;  // held by the caller of the run
  int started_ = 0;    // threads of the pool
  Clock::time_point refused_until_{};
  WorkerState worker_states_[RunState::kMaxWorkers];  // of worker w at w - 1

  // The run, written by its caller before state_.begin()
  RangeBody body_{};
  int64_t n_ = 0;
  int64_t grain_ = 1;
  alignas(64) std::atomic<uint32_t> epoch_{0};  // of the newest run that woke workers
  alignas(64) RunState state_;
  WorkRange ranges_[RunState::kMaxWorkers + 1];
  int workers_ = 1;  // with the caller

  std::atomic<int> waiting_threads_{0};
  std::atomic<Clock::time_point> expected_since_{};
  // This thread is inside a run, or is a thread of the pool: a nested run stays on it.
  static thread_local bool inside_run_;
};

thread_local bool Pool::inside_run_ = false;

Pool& pool() {
  alignas(Pool) static char memory[sizeof(Pool)];
  static Pool* instance = new (memory) Pool;
  return *instance;
}

}  // namespace

void pool_run(int threads, int64_t n, int64_t grain, RangeBody body) {
  if (n > 0) pool().run(threads, n, std::max<int64_t>(1, grain), body);
}

WaitingThread::WaitingThread() { pool().add_waiting_threads(1); }
WaitingThread::~WaitingThread() { pool().add_waiting_threads(-1); }
void WaitingThread::expect() { pool().expect_waiting_thread(); }
bool WaitingThread::join_run(const std::function<bool()>& done) { return pool().join_run(done); }

}  // namespace ml::cpu
