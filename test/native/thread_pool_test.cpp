// The thread pool: every task of every run is done exactly once, with late workers, joiners, nested
// and competing runs. Results are plain variables, so that the thread sanitizer sees whether the
// run ends after its last task.

#include "cpu/thread_pool.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <thread>
#include <vector>

#include "cpu/context.h"
#include "cpu/placement.h"
#include "require.h"

using namespace ml;

namespace {

// A run whose tasks call work(task, worker): each once, of the right size, on workers 0 … threads -
// 1, each of which is one thread at a time.
template <class F>
void checked_run(int threads, int64_t n, int64_t grain, const F& work) {
  const auto tasks = static_cast<size_t>((n + grain - 1) / grain);
  std::vector<int> done(tasks), inside(static_cast<size_t>(threads));
  cpu::KernelContext(threads).parallel_for(n, grain, [&](int64_t begin, int64_t end, int worker) {
    require(begin % grain == 0 && end == std::min(n, begin + grain),
            "tasks depend on n and grain alone");
    require(worker >= 0 && worker < threads, "the worker's number");
    int& self = inside[static_cast<size_t>(worker)];
    require(++self == 1, "a worker is one thread");
    work(begin / grain, worker);
    ++done[static_cast<size_t>(begin / grain)];
    --self;
  });
  for (const int count : done) require(count == 1, "every task is done once");
}

const auto nothing = [](int64_t, int) {};

void every_task_once() {
  for (int threads : {1, 2, 3, 7})
    for (int64_t n : {0, 1, 2, 6, 7, 41, 1000, 4099})
      for (int64_t grain : {1, 2, 7, 64, 5000}) checked_run(threads, n, grain, nothing);
}

// A worker that is slow has its tasks stolen, whichever it is.
void slow_workers() {
  for (int threads : {2, 3, 7})
    for (int64_t n : {6, 41, 300})
      for (int slow = 0; slow < threads; ++slow)
        checked_run(threads, n, 7, [&](int64_t, int worker) {
          if (worker == slow) sleep_wake_times(2);
        });
}

// Runs so short that workers are late: the run has ended, or the next one has begun.
void late_workers() {
  for (int i = 0; i < 2000; ++i) {
    checked_run(2 + i % 3, 3 + i % 5, 1, nothing);
    if (i % 100 == 0) sleep_wake_times(2);  // they sleep
  }
}

// A run nested in one of the pool stays on its thread, whichever worker that is.
void nested_runs() {
  for (int threads : {2, 3})
    checked_run(threads, 12, 1, [&](int64_t, int) {
      const auto outer = std::this_thread::get_id();
      sleep_wake_times(1);
      checked_run(3, 10, 3, [&](int64_t, int worker) {
        require(std::this_thread::get_id() == outer && worker == 0, "a nested run has one worker");
      });
    });
}

// Of the streams that start a run at once one has the pool, the others run theirs alone.
void competing_streams() {
  std::vector<std::thread> streams;
  for (int s = 0; s < 3; ++s)
    streams.emplace_back([s] {
      for (int i = 0; i < 200; ++i)
        checked_run(2 + s, 20 + i, 3, [&](int64_t task, int) {
          if (i % 20 == 0 && task % 8 == 0) sleep_wake_times(1);
        });
    });
  for (std::thread& t : streams) t.join();

  std::atomic<bool> started{false}, finished{false};
  std::thread owner([&] {
    checked_run(2, 2, 1, [&](int64_t, int) {
      started = true;
      while (!finished) std::this_thread::yield();
    });
  });
  while (!started) std::this_thread::yield();
  checked_run(4, 50, 1, [&](int64_t, int worker) { require(worker == 0, "the pool is in use"); });
  finished = true;
  owner.join();
}

// Waiting threads join runs of every shape as their last worker.
void joiners() {
  require(!cpu::WaitingThread().join_run([] { return false; }), "there is no run to join");
  std::atomic<bool> stop{false};
  std::atomic<int> joined{0};
  std::vector<std::thread> waiting;
  for (int i = 0; i < 2; ++i)
    waiting.emplace_back([&] {
      while (!stop) {
        cpu::WaitingThread self;
        joined += self.join_run([] { return false; });
        std::this_thread::yield();
      }
    });
  while (joined < 100) {
    slow_workers();
    nested_runs();
  }
  stop = true;
  for (std::thread& t : waiting) t.join();
}

// The main thread joins another's run as its last worker, and leaves when done() holds.
void joiner_leaves_early() {
  const auto joiner = std::this_thread::get_id();
  int tasks = 0, polls = 0;  // of the joiner
  while (tasks == 0) {
    cpu::WaitingThread self;
    std::atomic<bool> run_ended{false};
    std::thread caller([&] {
      checked_run(2, 50, 1, [&](int64_t, int worker) {
        sleep_wake_times(1);
        if (std::this_thread::get_id() != joiner) return;
        require(worker == 1, "the joiner is the last worker");
        ++tasks;
      });
      run_ended = true;
    });
    while (!run_ended && !self.join_run([&] { return ++polls == 2; })) std::this_thread::yield();
    caller.join();
  }
  require(tasks == polls && tasks <= 2, "done() is asked after every task, and obeyed");
}

// While a thread waits, the last worker is reserved for it until the caller's first task has ended.
void joiner_is_reserved() {
  const auto joiner = std::this_thread::get_id();
  for (int threads : {2, 3}) {
    cpu::WaitingThread self;
    std::atomic<int> inside{0};
    std::thread caller([&] {
      checked_run(threads, threads, 1, [&](int64_t, int worker) {
        require((worker == threads - 1) == (std::this_thread::get_id() == joiner),
                "the joiner is the last worker");
        ++inside;
        while (inside < threads) std::this_thread::yield();
      });
    });
    while (inside == 0) std::this_thread::yield();
    sleep_wake_times(10);
    require(self.join_run([] { return false; }), "the reservation holds");
    caller.join();
  }
}

// If no joiner arrives, the pool's thread is woken, or others run its tasks.
void no_joiner_arrives() {
  for (int threads : {2, 3})
    for (const bool waits : {false, true}) {
      sleep_wake_times(5);  // the pool's threads sleep
      std::optional<cpu::WaitingThread> self;
      if (waits)
        self.emplace();
      else
        cpu::WaitingThread::expect();
      std::atomic<int> elsewhere{0};
      checked_run(threads, 100, 1, [&](int64_t, int worker) {
        sleep_wake_times(10);
        elsewhere += worker != 0;
      });
      require(elsewhere > 0, "a worker replaces the joiner");
    }
}

cpu_set_t affinity_of(pid_t thread) {
  cpu_set_t set;
  require(sched_getaffinity(thread, sizeof(set), &set) == 0, "the affinity of a thread");
  return set;
}

// A worker that has not entered is migrated from the caller's core, and keeps its affinity.
void migration() {
  const cpu_set_t all = affinity_of(0);
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  require(sched_setaffinity(0, sizeof(one), &one) == 0, "this thread stays on its core");
  cpu::WorkerState worker;
  std::atomic<int> cpu{-1};
  std::atomic<pid_t> thread{0};
  std::atomic<bool> stop{false};
  std::thread running([&] {
    worker.register_thread();
    worker.publish_cpu();
    thread = static_cast<pid_t>(syscall(SYS_gettid));
    while (!stop) cpu = sched_getcpu();
  });
  while (thread == 0) std::this_thread::yield();
  require(sched_setaffinity(thread, sizeof(all), &all) == 0, "the worker may leave it");
  cpu::migrate_late_workers(&worker, 1, 1);
  const cpu_set_t after = affinity_of(thread);
  require(CPU_EQUAL(&after, &all), "a migrated worker may run everywhere");
  // It runs, though this thread does not yield its core.
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (CPU_COUNT(&all) > 1 && cpu.exchange(-1) == -1)
    require(std::chrono::steady_clock::now() < end, "a migrated worker has a core of its own");
  sched_setaffinity(0, sizeof(all), &all);
  stop = true;
  running.join();
}

// The pool has 255 threads; a run that could use more has 256 workers.
void most_workers() {
  checked_run(300, 4099, 1, [](int64_t, int worker) { require(worker < 256, "256 workers"); });
  checked_run(300, 300, 1, nothing);
}

}  // namespace

int main() {
  migration();
  every_task_once();
  slow_workers();
  late_workers();
  nested_runs();
  competing_streams();
  joiners();
  joiner_leaves_early();
  joiner_is_reserved();
  no_joiner_arrives();
  most_workers();
  report();
}
