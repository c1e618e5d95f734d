#pragma once
// The writes to a storage, for whoever saved a tensor and reads it later: a context that backward
// spends must find what forward saw. Announced before the work is enqueued and counted after it, so
// that work which could not be enqueued is no write; only the caller's thread.

#include <algorithm>
#include <array>
#include <cstdint>
#include <list>

namespace ml {

// Told of a write to a storage before it is enqueued: whoever wants to keep what it replaces.
class WriteWatcher {
 public:
  virtual void before_write(int64_t begin, int64_t end) = 0;

 protected:
  ~WriteWatcher() = default;
};

class WriteLog {
 public:
  using Watch = std::list<WriteWatcher*>::iterator;

  uint64_t count() const { return count_; }

  // Work that writes bytes begin … end - 1 is enqueued next. A watcher may end its own watch.
  void announce(int64_t begin, int64_t end) {
    for (auto it = watchers_.begin(); it != watchers_.end();) (*it++)->before_write(begin, end);
  }
  // It has been enqueued.
  void add(int64_t begin, int64_t end) noexcept { recent_[count_++ % kRecent] = {begin, end}; }

  // For writes that were counted and will not come: restore() makes the counts those of mark().
  struct Mark;
  Mark mark() const;
  void restore(const Mark& mark) noexcept;

  Watch watch(WriteWatcher* watcher) { return watchers_.insert(watchers_.end(), watcher); }
  void end_watch(Watch watch) { watchers_.erase(watch); }

  // Whether bytes begin … end - 1 may have been written since count() was `then`. Exact for the
  // last kRecent writes; more of them count as writes to everything.
  bool touched(uint64_t then, int64_t begin, int64_t end) const {
    if (count_ - then > kRecent) return true;
    for (uint64_t i = then; i < count_; ++i) {
      const Range& r = recent_[i % kRecent];
      if (r.begin < end && begin < r.end) return true;
    }
    return false;
  }

 private:
  static constexpr uint64_t kRecent = 4;
  struct Range {
    int64_t begin, end;
  };
  uint64_t count_ = 0;
  std::list<WriteWatcher*> watchers_;
  std::array<Range, kRecent> recent_{};
};

struct WriteLog::Mark {
  uint64_t count;
  std::array<Range, kRecent> recent;
};
inline WriteLog::Mark WriteLog::mark() const { return {count_, recent_}; }
inline void WriteLog::restore(const Mark& mark) noexcept {
  count_ = mark.count;
  recent_ = mark.recent;
}

}  // namespace ml
