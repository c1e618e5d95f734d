// Memory of work, and lists of it: allocated by one thread, freed by another, in order or not.

#include "device/work.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "require.h"

using namespace ml;

namespace {

constexpr int kWork = 20000;

// Work with a payload that only its own memory holds.
class Numbered final : public Work {
 public:
  Numbered(uint32_t number, size_t words) : number_(number), words_(words) {
    for (size_t i = 0; i < words_; ++i) payload_[i] = number_ + static_cast<uint32_t>(i);
  }
  bool whole() const {
    for (size_t i = 0; i < words_; ++i)
      if (payload_[i] != number_ + static_cast<uint32_t>(i)) return false;
    return true;
  }
  uint32_t number() const { return number_; }

 private:
  const uint32_t number_;
  const size_t words_;
  uint32_t payload_[900];
};

uint32_t number_of(const Work& work) { return static_cast<const Numbered&>(work).number(); }

WorkPtr make(WorkMemory& memory, uint32_t number) {
  return WorkPtr(new (memory) Numbered(number, 1 + number % 900));
}

void memory_is_used_again() {
  WorkMemory memory;
  std::set<void*> seen;
  for (uint32_t i = 0; i < 1000; ++i) seen.insert(make(memory, i).get());
  require(seen.size() <= 4, "work that has ended makes room for the next");
  std::vector<WorkPtr> burst;
  for (uint32_t i = 0; i < 100; ++i) burst.push_back(make(memory, i));
  for (const WorkPtr& work : burst)
    require(static_cast<Numbered&>(*work).whole(), "work has memory of its own");
  burst.clear();
  seen.clear();
  for (uint32_t i = 0; i < 1000; ++i) seen.insert(make(memory, i).get());
  require(seen.size() <= 4 * 100, "so does a burst");
  WorkPtr last = make(memory, 7);
  for (uint32_t i = 0; i < 1000; ++i) make(memory, i);
  require(static_cast<Numbered&>(*last).whole(), "work that ends late keeps its memory");
}

void lists_keep_the_order() {
  WorkMemory memory;
  WorkList outer, inner, none;
  for (uint32_t i = 0; i < 3; ++i) outer.push(make(memory, i));
  for (uint32_t i = 3; i < 5; ++i) inner.push(make(memory, i));
  outer.append(none);
  outer.append(inner);
  require(inner.empty() && !outer.empty(), "append() takes all");
  inner.push(make(memory, 9));
  outer.push(make(memory, 5));
  for (uint32_t i = 0; i < 6; ++i) require(number_of(*outer.pop()) == i, "first in, first out");
  require(outer.empty() && number_of(*inner.pop()) == 9, "a list that was taken is empty");
  none.append(outer);
  none.push(make(memory, 1));
  require(number_of(*none.pop()) == 1 && none.empty(), "an empty list can be taken");
}

// Another thread checks and ends the work; `late`: one in eight only at the end.
void another_thread_ends_it(bool late) {
  WorkMemory memory;
  WorkList queue;
  std::mutex mutex;
  std::condition_variable pushed;
  std::thread other([&] {
    std::vector<WorkPtr> kept;
    for (uint32_t i = 0; i < kWork; ++i) {
      WorkPtr work;
      {
        std::unique_lock<std::mutex> lock(mutex);
        pushed.wait(lock, [&] { return !queue.empty(); });
        work = queue.pop();
      }
      require(number_of(*work) == i && static_cast<Numbered&>(*work).whole(),
              "work arrives whole and in order");
      if (late && i % 8 == 0) kept.push_back(std::move(work));
    }
    std::shuffle(kept.begin(), kept.end(), std::minstd_rand(1));
    for (WorkPtr& work : kept) {
      require(static_cast<Numbered&>(*work).whole(), "work that is kept stays whole");
      work.reset();
    }
  });
  for (uint32_t i = 0; i < kWork; ++i) {
    WorkPtr work = make(memory, i);
    const std::lock_guard<std::mutex> lock(mutex);
    queue.push(std::move(work));
    pushed.notify_one();
  }
  other.join();
}

}  // namespace

int main() {
  memory_is_used_again();
  lists_keep_the_order();
  another_thread_ends_it(false);
  another_thread_ends_it(true);
  report();
}
