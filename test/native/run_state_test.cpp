// RunState and WorkRange alone: every transition, where it is refused, and what it publishes, which
// the thread sanitizer checks: the data below are plain variables.

#include "cpu/run_state.h"

#include <thread>
#include <vector>

#include "cpu/work_range.h"
#include "require.h"

using ml::cpu::RunState;
using ml::cpu::WorkRange;

namespace {

constexpr uint32_t kEpoch = 7;
constexpr int kLast = 3;

void idle() {
  RunState state;
  require(state.is_idle(), "IDLE: nobody is inside");
  require(!state.try_enter(0, 1) && !state.try_join(), "IDLE: nobody enters or joins");
  require(!state.cancel_reservation(), "IDLE: there is no reservation");
  require(state.is_idle(), "refused transitions change nothing");
}

void available() {
  RunState state;
  state.begin(kEpoch, kLast, false);
  require(!state.try_enter(kEpoch - 1, 1) && !state.try_enter(kEpoch + 1, 1),
          "AVAILABLE: nobody enters in another epoch");
  require(!state.try_enter(kEpoch, kLast + 1), "AVAILABLE: no worker beyond the last enters");
  require(state.is_idle(), "refused transitions change nothing");
  require(state.try_enter(kEpoch, 1) && state.try_enter(kEpoch, 2), "AVAILABLE: workers enter");
  require(state.cancel_reservation(), "AVAILABLE: the last worker is unclaimed");
  require(state.try_enter(kEpoch, kLast), "AVAILABLE: the last worker enters");
  require(!state.try_join() && !state.cancel_reservation(), "CLAIMED: by the last worker");
  for (int inside = kLast; inside > 0; --inside) {
    require(!state.is_idle(), "workers are inside");
    state.leave();
  }
  require(state.is_idle(), "all have left");

  state.close();
  state.begin(kEpoch, kLast, false);
  require(state.try_join(), "AVAILABLE: a joiner joins");
  require(!state.try_enter(kEpoch, kLast), "CLAIMED: the last worker is refused");
  require(!state.try_join(), "CLAIMED: a second joiner is refused");
  require(state.try_enter(kEpoch, 1), "CLAIMED: the other workers enter");
}

void reserved() {
  RunState state;
  state.begin(kEpoch, kLast, true);
  require(!state.try_enter(kEpoch, kLast), "RESERVED: the last worker is refused");
  require(state.try_enter(kEpoch, 1), "RESERVED: the other workers enter");
  require(state.try_join(), "RESERVED: a joiner joins");
  require(!state.try_join() && !state.try_enter(kEpoch, kLast), "CLAIMED: by the joiner");
  require(!state.cancel_reservation(), "CLAIMED: it is too late to cancel");
  require(!state.try_enter(kEpoch, kLast), "CLAIMED: also after the reservation was cancelled");

  for (const bool joiner : {false, true}) {
    RunState late;
    late.begin(kEpoch, 1, true);
    require(!late.try_enter(kEpoch, 1), "RESERVED: the last worker is refused");
    require(late.cancel_reservation(), "RESERVED: nobody has come");
    require(joiner ? late.try_join() : late.try_enter(kEpoch, 1),
            "AVAILABLE: the first to come claims the last worker");
    require(!late.try_join() && !late.try_enter(kEpoch, 1), "CLAIMED: nobody else does");
  }
}

void draining() {
  for (const bool reserve : {false, true}) {
    RunState state;
    state.begin(kEpoch, kLast, reserve);
    require(state.try_enter(kEpoch, 1), "a worker enters");
    state.close();
    require(!state.try_enter(kEpoch, 2) && !state.try_enter(kEpoch, kLast),
            "DRAINING: no worker enters");
    require(!state.try_join() && !state.cancel_reservation(), "DRAINING: nobody joins");
    require(!state.is_idle(), "DRAINING: a worker is inside");
    state.leave();
    require(state.is_idle(), "IDLE: it has left");
    require(!state.try_enter(kEpoch, 1) && !state.try_join(), "IDLE: nobody enters or joins");
  }
}

// The fields do not overflow into each other's bits.
void epochs_wrap() {
  RunState state;
  for (uint32_t epoch = 0xfffffffd; epoch != 3; ++epoch) {
    state.begin(epoch, RunState::kMaxWorkers, true);
    require(!state.try_enter(epoch - 1, 1) && !state.try_enter(epoch + 1, 1), "another epoch");
    for (int w = 1; w < RunState::kMaxWorkers; ++w)
      require(state.try_enter(epoch, w), "every worker enters");
    require(!state.try_enter(epoch, RunState::kMaxWorkers), "the last one is reserved");
    require(state.cancel_reservation() && state.try_enter(epoch, RunState::kMaxWorkers),
            "and enters when it is available");
    state.close();
    for (int w = 1; w <= RunState::kMaxWorkers; ++w) {
      require(!state.is_idle(), "workers are inside");
      state.leave();
    }
    require(state.is_idle(), "all have left");
  }
}

// A caller, two workers and two joiners. What a run reads was written before begin(), what it
// writes is read once it is idle, and its last worker is one thread.
void transitions_race() {
  constexpr int kRuns = 1500, kWorkers = 2;
  RunState state;
  std::atomic<uint32_t> epoch{0};
  std::atomic<bool> stop{false};
  // Relaxed: counting orders nothing, so a missing order of the state's own stays a race.
  std::atomic<int> entered{0};
  int input = 0, outputs[kWorkers + 1] = {};
  const auto work = [&](int worker) {
    outputs[worker] = input;
    entered.fetch_add(1, std::memory_order_relaxed);
    state.leave();
  };
  std::vector<std::thread> threads;
  for (int w = 1; w <= kWorkers; ++w)
    threads.emplace_back([&, w] {
      for (uint32_t seen = 0; !stop;) {
        const uint32_t now = epoch.load(std::memory_order_acquire);
        if (now == seen) {
          std::this_thread::yield();
          continue;
        }
        if (state.try_enter(now, w)) work(w);
        seen = now;
      }
    });
  for (int j = 0; j < 2; ++j)
    threads.emplace_back([&] {
      while (!stop)
        if (state.try_join())
          work(kWorkers);
        else
          std::this_thread::yield();
    });
  int done = 0;
  for (int r = 1; r <= kRuns; ++r) {
    input = r;
    const int before = entered.load(std::memory_order_relaxed);
    const uint32_t next = epoch.load(std::memory_order_relaxed) + 1;
    state.begin(next, kWorkers, r % 3 == 0);
    epoch.store(next, std::memory_order_release);
    if (r % 4 == 0) std::this_thread::yield();
    // On a busy machine nobody may ever enter before the run is closed.
    if (r % 100 == 1)
      while (entered.load(std::memory_order_relaxed) == before) std::this_thread::yield();
    if (r % 2 == 0) state.cancel_reservation();
    state.close();
    while (!state.is_idle()) std::this_thread::yield();
    for (int w = 1; w <= kWorkers; ++w) {
      require(outputs[w] == 0 || outputs[w] == r, "a worker reads the input of its own run");
      done += outputs[w] != 0;
      outputs[w] = 0;
    }
  }
  stop = true;
  for (std::thread& t : threads) t.join();
  require(done == entered.load(), "who entered a run is seen by its caller");
  require(done >= kRuns / 100, "someone entered each run that waited");
}

void work_ranges() {
  WorkRange range;
  require(!range.pop_front() && !range.steal_tail(), "a range is empty at first");
  range.assign(4, 8);
  require(range.pop_front() == 4 && range.steal_tail() == 7 && range.steal_tail() == 6 &&
              range.pop_front() == 5,
          "the owner pops the front, thieves steal the tail");
  require(!range.pop_front() && !range.steal_tail(), "each task is popped or stolen once");
  range.assign(WorkRange::kMaxTasks - 2, WorkRange::kMaxTasks);
  require(range.pop_front() == WorkRange::kMaxTasks - 2 &&
              range.steal_tail() == WorkRange::kMaxTasks - 1 && !range.pop_front(),
          "the largest numbers fit");

  // Plain counters: a task that two threads run is a race.
  constexpr int64_t kTasks = 20000;
  std::vector<int> counts(kTasks);
  range.assign(0, kTasks);
  const auto run_all = [&](bool owner) {
    while (const auto task = owner ? range.pop_front() : range.steal_tail())
      ++counts[static_cast<size_t>(*task)];
  };
  std::thread thieves[] = {std::thread(run_all, false), std::thread(run_all, false)};
  run_all(true);
  for (std::thread& t : thieves) t.join();
  for (const int count : counts) require(count == 1, "every task is popped or stolen once");
}

}  // namespace

int main() {
  idle();
  available();
  reserved();
  draining();
  epochs_wrap();
  transitions_race();
  work_ranges();
  report();
}
