#pragma once
// The state of the thread pool's run in one atomic word, and its transitions.
//
// The workers of a run are numbered: 0 is the caller, 1 … last are threads of the pool. The last
// worker is either the pool's thread or a *joiner*, a thread that waits for a stream, whichever
// claims it first. While it is reserved, only a joiner can claim it.
//
//            begin(reserved)         +-----------+   try_join()
//       +--------------------------->| RESERVED  |-----------------------------+
//       |                            +-----------+                             v
//   +------+                               | cancel_reservation()         +---------+
//   | IDLE |                               v                              | CLAIMED |
//   +------+                         +-----------+   try_join()           +---------+
//    ^  |                            | AVAILABLE |-----------------------------^
//    |  +--------------------------->+-----------+   try_enter(last)
//    |       begin(not reserved)
//    |
//    |       the last one leave()s   +-----------+   close() from each of the three open states
//    +-------------------------------| DRAINING  |<---- RESERVED, AVAILABLE, CLAIMED
//                                    +-----------+
//
// In the open states workers 1 … last - 1 also enter; those inside may leave in every state.

#include <atomic>
#include <cstdint>

namespace ml::cpu {

class RunState {
 public:
  static constexpr int kMaxWorkers = 255;  // besides the caller

  // IDLE -> RESERVED or AVAILABLE. Only the caller of the run uses it. Release: a thread that
  // enters or joins sees what the caller wrote before: the run's body, its size and the work
  // ranges.
  void begin(uint32_t epoch, int last, bool reserved) {
    word_.store(uint64_t{epoch} << kEpochShift | kOpen | kLastAvailable |
                    (reserved ? kReserved : 0) | static_cast<uint64_t>(last) << kLastShift,
                std::memory_order_release);
  }

  // A thread of the pool, woken for `epoch`, enters as `worker`. Refused when the run is closed, of
  // another epoch, or has no such worker. For the last worker this is AVAILABLE -> CLAIMED, refused
  // when RESERVED or CLAIMED. Acquire: pairs with begin(), whose release sequence the other
  // transitions continue. The load may be relaxed: the thread has acquired the epoch, which was
  // published after begin(), so it reads that or a later state.
  bool try_enter(uint32_t epoch, int worker) {
    uint64_t now = word_.load(std::memory_order_relaxed), next;
    do {
      const int last = static_cast<int>(now >> kLastShift & kLastMask);
      if (now >> kEpochShift != epoch || (now & kOpen) == 0 || worker > last) return false;
      const bool available = (now & (kLastAvailable | kReserved)) == kLastAvailable;
      if (worker == last && !available) return false;
      next = (worker == last ? now & ~kLastAvailable : now) + kOneInside;
    } while (!word_.compare_exchange_weak(now, next, std::memory_order_acquire,
                                          std::memory_order_relaxed));
    return true;
  }

  // RESERVED or AVAILABLE -> CLAIMED by a joiner; refused in the other states. Acquire: as above.
  bool try_join() {
    uint64_t now = word_.load(std::memory_order_relaxed);
    do {
      if ((now & kLastAvailable) == 0) return false;
    } while (!word_.compare_exchange_weak(now, (now & ~kLastAvailable) + kOneInside,
                                          std::memory_order_acquire, std::memory_order_relaxed));
    return true;
  }

  // RESERVED -> AVAILABLE: the joiner has not come. False if the last worker has been claimed.
  // Relaxed: it publishes nothing.
  bool cancel_reservation() {
    return (word_.fetch_and(~kReserved, std::memory_order_relaxed) & kLastAvailable) != 0;
  }

  // Open -> DRAINING or, with nobody inside, IDLE: from here on nobody enters or joins. Relaxed: it
  // publishes nothing, and is_idle() of the same thread reads this or what followed it.
  void close() { word_.fetch_and(~(kOpen | kLastAvailable), std::memory_order_relaxed); }

  // A worker that has entered or joined leaves. Release: publishes the results of its tasks to the
  // caller; the transitions that follow are in the same release sequence.
  void leave() { word_.fetch_sub(kOneInside, std::memory_order_release); }

  // After close(): whether all workers have left. Acquire: pairs with leave().
  bool is_idle() const { return (word_.load(std::memory_order_acquire) & kInsideMask) == 0; }

 private:
  // [63 … 32] epoch  [31] open  [30] last available  [29] reserved  [23 … 16] last  [15 … 0] inside
  static constexpr int kEpochShift = 32, kLastShift = 16;
  static constexpr uint64_t kOpen = uint64_t{1} << 31;
  static constexpr uint64_t kLastAvailable = uint64_t{1} << 30;
  static constexpr uint64_t kReserved = uint64_t{1} << 29;
  static constexpr uint64_t kLastMask = kMaxWorkers;
  static constexpr uint64_t kInsideMask = 0xffff, kOneInside = 1;

  std::atomic<uint64_t> word_{0};
};

}  // namespace ml::cpu
