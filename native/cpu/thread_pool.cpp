#include "cpu/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

#include "cpu/placement.h"
#include "cpu/spin.h"

namespace ml::cpu {
namespace {

constexpr int kMostHelpers = 255;
// a share counts them in 32 bits; more are done by the caller alone
constexpr int64_t kMostPieces = INT32_MAX;
// after which a helper that has not come is looked for
constexpr std::chrono::microseconds kLate{20};
constexpr std::chrono::microseconds kNear{60};  // for which a thread is expected

// The pieces of one thread that are not taken yet: the first, and 32 bits above it the one past the
// last.
struct alignas(64) Share {
  std::atomic<int64_t> left{0};

  // The first of them, or the last.
  bool take(bool first, int64_t& piece) {
    int64_t now = left.load(std::memory_order_relaxed);
    do {
      const int64_t begin = now & 0xffffffff, end = now >> 32;
      if (begin >= end) return false;
      piece = first ? begin : end - 1;
    } while (!left.compare_exchange_weak(now, first ? now + 1 : now - (int64_t{1} << 32),
                                         std::memory_order_relaxed));
    return true;
  }
};

class Pool {
 public:
  void run(int threads, int64_t n, int64_t grain, RangeBody body) {
    const int64_t pieces = (n + grain - 1) / grain;
    const int helpers =
        static_cast<int>(std::min<int64_t>({threads - 1, pieces - 1, kMostHelpers}));
    std::unique_lock<std::mutex> lock(busy_, std::defer_lock);
    if (helpers <= 0 || pieces > kMostPieces || inside_ || !lock.try_lock()) {
      for (int64_t p = 0; p < pieces; ++p)
        body.call(body.object, p * grain, std::min(n, (p + 1) * grain), 0);
      return;
    }
    grow(helpers);
    body_ = body;
    n_ = n;
    grain_ = grain;
    workers_ = helpers + 1;
    for (int w = 0; w < workers_; ++w)
      shares_[w].left.store(pieces * w / workers_ | pieces * (w + 1) / workers_ << 32,
                            std::memory_order_relaxed);
    const auto now = std::chrono::steady_clock::now();
    const uint32_t turn = turn_.load(std::memory_order_relaxed) + 1;
    const bool kept = waiting_.load(std::memory_order_relaxed) > 0 ||
                      now - expected_.load(std::memory_order_relaxed) < kNear;
    gate_.store(uint64_t{turn} << 32 | kOpen | kSeat | (kept ? kKept : 0) |
                    static_cast<uint64_t>(helpers) << 16,
                std::memory_order_release);
    if (helpers > 1 || !kept) call(turn);
    inside_ = true;
    bool looked = false;
    while (piece(0)) {
      if (looked || std::chrono::steady_clock::now() - now < kLate) continue;
      looked = true;
      const bool empty = (gate_.fetch_and(~kKept, std::memory_order_relaxed) & kSeat) != 0;
      if (kept && empty && helpers == 1)
        call(turn);
      else
        send_off(helpers_, kept ? helpers - 1 : helpers, turn);
    }
    inside_ = false;
    // Every piece is taken. Helpers that did not come in time are shut out; those inside finish
    // theirs.
    gate_.fetch_and(~(kOpen | kSeat), std::memory_order_relaxed);
    const auto left = [this] { return (gate_.load(std::memory_order_acquire) & kInside) == 0; };
    spin_until(left);
    while (!left()) std::this_thread::yield();
  }

  void wait(int threads) { waiting_.fetch_add(threads, std::memory_order_relaxed); }
  void expect() { expected_.store(std::chrono::steady_clock::now(), std::memory_order_relaxed); }

  // Takes the seat of a run, if there is one that is free.
  bool sit_in(const std::function<bool()>& done) {
    uint64_t gate = gate_.load(std::memory_order_relaxed);
    do {
      if ((gate & kSeat) == 0) return false;
    } while (!gate_.compare_exchange_weak(gate, (gate & ~kSeat) + 1, std::memory_order_acquire,
                                          std::memory_order_relaxed));
    inside_ = true;
    while (piece(workers_ - 1) && !done()) continue;
    inside_ = false;
    gate_.fetch_sub(1, std::memory_order_release);
    return true;
  }

 private:
  void call(uint32_t turn) {
    turn_.store(turn, std::memory_order_release);
    turn_.notify_all();
  }

  void grow(int helpers) {
    for (; made_ < helpers; ++made_)
      std::thread([this, id = made_, seen = turn_.load()] { loop(id, seen); }).detach();
  }

  void loop(int id, uint32_t seen) {
    inside_ = true;
    Whereabouts& self = helpers_[id];
    self.introduce();
    for (;;) {
      spin_until([&] {
        self.look();
        return turn_.load(std::memory_order_acquire) != seen;
      });
      self.sleep();
      turn_.wait(seen, std::memory_order_acquire);
      seen = turn_.load(std::memory_order_acquire);
      if (!enter(id, seen)) continue;
      self.come(seen);
      while (piece(id + 1)) continue;
      gate_.fetch_sub(1, std::memory_order_release);
    }
  }

  // Only helpers of this run, and only while it is open: whoever is inside is waited for.
  bool enter(int id, uint32_t turn) {
    uint64_t gate = gate_.load(std::memory_order_acquire), then;
    do {
      const int helpers = static_cast<int>(gate >> 16 & kMostHelpers);
      const bool last = id == helpers - 1, seat = (gate & (kSeat | kKept)) == kSeat;
      const bool mine =
          gate >> 32 == turn && (gate & kOpen) != 0 && id < helpers && (!last || seat);
      if (!mine) return false;
      then = (last ? gate & ~kSeat : gate) + 1;
    } while (!gate_.compare_exchange_weak(gate, then, std::memory_order_acquire));
    return true;
  }

  // Does the next piece of the worker's own share, or the last of another's; false if none is left.
  bool piece(int worker) {
    for (int i = 0; i < workers_; ++i) {
      const int whose = worker + i < workers_ ? worker + i : worker + i - workers_;
      int64_t p;
      if (!shares_[whose].take(i == 0, p)) continue;
      const int64_t begin = p * grain_;
      body_.call(body_.object, begin, std::min(n_, begin + grain_), worker);
      return true;
    }
    return false;
  }

  std::mutex busy_;
  int made_ = 0;
  Whereabouts helpers_[kMostHelpers];
  RangeBody body_{};
  int64_t n_ = 0;
  int64_t grain_ = 1;
  // The run's turn, whether it is open, how many helpers it wants, how many are inside. The place
  // of the last of them is the seat: it goes to who comes first, the helper or a thread that waits,
  // unless it is kept for the latter.
  static constexpr uint64_t kOpen = uint64_t{1} << 31;
  static constexpr uint64_t kSeat = uint64_t{1} << 30, kKept = uint64_t{1} << 29;
  static constexpr uint64_t kInside = 0xffff;
  alignas(64) std::atomic<uint32_t> turn_{0};  // what helpers wait for
  alignas(64) std::atomic<uint64_t> gate_{0};
  Share shares_[kMostHelpers + 1];
  int workers_ = 1;
  std::atomic<int> waiting_{0};                                    // threads
  std::atomic<std::chrono::steady_clock::time_point> expected_{};  // since then, one more
  static thread_local bool inside_;
};

thread_local bool Pool::inside_ = false;

Pool& pool() {
  static Pool* instance = new Pool;
  return *instance;
}

}  // namespace

int usable_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

void pool_run(int threads, int64_t n, int64_t grain, RangeBody body) {
  if (n > 0) pool().run(threads, n, std::max<int64_t>(1, grain), body);
}

Waiting::Waiting() { pool().wait(1); }
Waiting::~Waiting() { pool().wait(-1); }
void Waiting::expect() { pool().expect(); }
bool Waiting::help(const std::function<bool()>& done) { return pool().sit_in(done); }

}  // namespace ml::cpu
