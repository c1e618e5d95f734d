#pragma once
// Work with all that it needs, which waits in an open batch and then in the queue of a stream. It
// is one object from the call to its end: nothing is copied or allocated on the way.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <thread>
#include <utility>

#include "device/outcome.h"

namespace ml {

inline constexpr size_t kCacheLine = 64;  // bytes, apart from which threads don't hinder each other

// Memory of outcomes, allocated by the caller's thread and freed by any. They live as long as what
// depends on them, so each block is used again by itself, those first that the caller freed last.
class OutcomeMemory {
 public:
  OutcomeMemory() = default;
  ~OutcomeMemory();
  OutcomeMemory(const OutcomeMemory&) = delete;
  OutcomeMemory& operator=(const OutcomeMemory&) = delete;

  // `bytes`: always the same.
  void* allocate(size_t bytes) {
    caller_.store(std::this_thread::get_id(), std::memory_order_relaxed);
    if (!free_) free_ = freed_.exchange(nullptr, std::memory_order_acquire);
    if (free_) return std::exchange(free_, free_->next);
    return ::operator new(bytes, std::align_val_t{kCacheLine});
  }
  void free(void* memory) noexcept {
    auto* block = static_cast<Block*>(memory);
    if (caller_.load(std::memory_order_relaxed) == std::this_thread::get_id()) {
      block->next = std::exchange(free_, block);
      return;
    }
    block->next = freed_.load(std::memory_order_relaxed);
    while (!freed_.compare_exchange_weak(block->next, block, std::memory_order_release,
                                         std::memory_order_relaxed)) {
    }
  }

 private:
  struct Block {
    Block* next;
  };
  std::atomic<std::thread::id> caller_{};
  Block* free_ = nullptr;  // the caller's
  alignas(kCacheLine) std::atomic<Block*> freed_{nullptr};
};

template <class T>
struct OutcomeAllocator {
  using value_type = T;

  explicit OutcomeAllocator(OutcomeMemory& m) : memory(&m) {}
  template <class U>
  OutcomeAllocator(const OutcomeAllocator<U>& o) : memory(o.memory) {}
  T* allocate(size_t) { return static_cast<T*>(memory->allocate(sizeof(T))); }
  void deallocate(T* outcome, size_t) noexcept { memory->free(outcome); }
  bool operator==(const OutcomeAllocator&) const = default;

  OutcomeMemory* memory;
};

// Memory of work, allocated by the caller's thread and freed by any: in chunks that follow each
// other in a circle. Work ends about in the order in which it was made, so the next chunk is mostly
// free by the time that one is full.
class WorkMemory {
 public:
  static constexpr size_t kLargest = 4096;  // bytes of one object

  WorkMemory() = default;
  ~WorkMemory();
  WorkMemory(const WorkMemory&) = delete;
  WorkMemory& operator=(const WorkMemory&) = delete;

  void* allocate(size_t bytes) {
    bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    if (!current_ || current_->used + bytes > kChunk) advance();
    void* memory = reinterpret_cast<std::byte*>(current_) + current_->used;
    current_->used += bytes;
    ++current_->allocated;
    return memory;
  }
  static void free(void* memory) noexcept {
    const auto address = reinterpret_cast<uintptr_t>(memory);
    reinterpret_cast<Chunk*>(address & ~(kChunk - 1))
        ->freed.fetch_add(1, std::memory_order_release);
  }

  OutcomePtr new_outcome(Needs needs = {}) {
    return std::allocate_shared<Outcome>(OutcomeAllocator<Outcome>(outcomes_), std::move(needs));
  }

 private:
  static constexpr size_t kChunk = 8 << 10, kAlignment = 16;
  struct Chunk {
    Chunk* next;
    size_t used = sizeof(Chunk);  // bytes
    size_t allocated = 0;         // objects
    alignas(kCacheLine) std::atomic<size_t> freed{0};

    bool idle() const { return freed.load(std::memory_order_acquire) == allocated; }
  };
  void advance();

  Chunk* current_ = nullptr;
  OutcomeMemory outcomes_;
};

class Work {
 public:
  Work() = default;
  virtual ~Work() = default;
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;

  // At the commit of its batch, on the caller's thread: enqueues the work, which is the stream's
  // from then on, or does it. Changes nothing where it throws std::bad_alloc.
  virtual void submit(std::unique_ptr<Work>& /*self*/) {}
  // On the stream, with what its backend gives to kernels; skipped when void.
  virtual void run(void* /*context*/) {}
  // On the CPU's stream, afterwards: with the fault of work that is void.
  virtual void finish(const FaultPtr& /*fault*/) {}

  static void* operator new(size_t bytes, WorkMemory& memory) { return memory.allocate(bytes); }
  static void operator delete(void* work, WorkMemory&) noexcept { WorkMemory::free(work); }
  static void operator delete(void* work) noexcept { WorkMemory::free(work); }

  const char* name = nullptr;  // of an operation, in profiles
  OutcomePtr outcome;          // nullptr: runs whatever is void

 private:
  friend class WorkList;
  Work* next_ = nullptr;
};
using WorkPtr = std::unique_ptr<Work>;

// First in, first out.
class WorkList {
 public:
  WorkList() = default;
  ~WorkList() {
    while (!empty()) pop();
  }
  WorkList(const WorkList&) = delete;
  WorkList& operator=(const WorkList&) = delete;

  bool empty() const { return !first_; }
  void push(WorkPtr work) noexcept {
    *last_ = work.get();
    last_ = &work.release()->next_;
  }
  WorkPtr pop() noexcept {
    WorkPtr work(std::exchange(first_, first_->next_));
    work->next_ = nullptr;
    if (!first_) last_ = &first_;
    return work;
  }
  // Takes all of another list.
  void append(WorkList& other) noexcept {
    if (other.empty()) return;
    *last_ = std::exchange(other.first_, nullptr);
    last_ = std::exchange(other.last_, &other.first_);
  }

 private:
  Work* first_ = nullptr;
  Work** last_ = &first_;
};

}  // namespace ml
