#pragma once
// A device as the layers see it: operations, a stream, memory.

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "core/check.h"
#include "core/view.h"
#include "device/allocator.h"
#include "device/pool.h"
#include "device/stream.h"
#include "device/validity.h"
#include "device/writes.h"

namespace ml {

struct Operations;
class Batch;
class Recording;
class Storage;

class Device : public std::enable_shared_from_this<Device> {
 public:
  Device(const Operations& operations, std::unique_ptr<Stream> stream, MemorySource source)
      : operations(operations),
        stream_(std::move(stream)),
        work_memory_(stream_->work_memory()),
        allocator_(std::move(source), *stream_) {
    constexpr int64_t kMostStaged = int64_t{4} << 30;  // bytes of host memory, where a GPU has more
    stream_->when_memory_is_short([this](Ticket last) { allocator_.release_idle(last); });
    stream_->limit_staging(std::min(allocator_.stats().total / 4, kMostStaged));
  }
  ~Device() { end(); }

  const Operations& operations;
  std::string name;         // "cpu"
  std::string kind;         // "cpu" | "cuda" | "simt"
  std::string description;  // "AMD EPYC, avx512, 2 threads"
  int threads = 0;          // of the CPU

  Batch* batch = nullptr;  // open now: device/batch.h
  View condition;          // all work that is enqueued now depends on it as well: OnCondition

  Stream& stream() { return *stream_; }
  Allocator& allocator() { return allocator_; }
  WorkMemory& work_memory() { return *work_memory_; }

  Recording* recording = nullptr;  // open now: device/recording.h
  std::shared_ptr<Pool> new_pool();
  // f(storage): of all tensors.
  template <class F>
  void each_storage(const F& f);

  // While a batch is open, work that it keeps may use any memory: no storage ends before the
  // outermost batch has.
  void open_batch() noexcept { ++open_batches_; }
  void close_batch() noexcept;
  void end(Storage& storage) noexcept;

  // A device that is closed takes no more work, and its tensors can't be used.
  void close() { closed_ = true; }
  bool closed() const { return closed_; }
  bool ended() const { return !stream_; }
  // Waits for the work that was enqueued, ends the threads and releases all memory, also that of
  // tensors.
  void end() noexcept;

 private:
  friend class Storage;

  std::unique_ptr<Stream> stream_;  // until end()
  const std::shared_ptr<WorkMemory> work_memory_;
  Allocator allocator_;
  bool closed_ = false;
  Storage* storages_ = nullptr;  // the first of a list
  int open_batches_ = 0;
  Storage* unused_ = nullptr;  // the first of a list: they end with the outermost batch
  std::vector<std::weak_ptr<Pool>> pools_;
};

// While it lives, all work that is enqueued depends on the condition as well, so updates are
// skipped if it is void.
class OnCondition {
 public:
  OnCondition(Device& device, const View& condition) : device_(device), outer_(device.condition) {
    device.condition = condition;
  }
  ~OnCondition() { device_.condition = outer_; }
  OnCondition(const OnCondition&) = delete;
  OnCondition& operator=(const OnCondition&) = delete;

 private:
  Device& device_;
  const View outer_;
};

// int32 elements, in bytes begin … end - 1, that a lookup made as indices, in rows of `winners`:
// all were -1 or in [0, limit) when the storage had been written `writes` times.
struct KnownIndices {
  int64_t begin = 0, end = 0, limit = 0, winners = 0;
  uint64_t writes = 0;
};

// Memory with its owner. Freed in stream order with the last tensor on it.
class Storage : public std::enable_shared_from_this<Storage> {
  // First, since `validity` has memory of the device, and since the end of a storage touches its
  // neighbours here, which most often end next.
  std::shared_ptr<Device> device_;
  const std::shared_ptr<Pool> pool_;  // that the block is from, if it is recorded work's
  Block block_;
  const int64_t size_;
  Storage *previous_ = nullptr, *next_ = nullptr;  // of the device

 public:
  Storage(std::shared_ptr<Device> device, int64_t bytes)
      : device_(std::move(device)), pool_(open_pool()), block_(allocate(bytes)), size_(bytes) {
    link();
  }
  // Memory that the device reads but does not write. `release` runs in stream order, after the last
  // tensor on it is gone.
  Storage(std::shared_ptr<Device> device, void* data, int64_t bytes, std::function<void()> release)
      : device_(std::move(device)),
        block_{data, bytes, 0},
        size_(bytes),
        release_(std::move(release)) {
    link();
  }
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  Device& device() const { return *device_; }
  void* data() const { return block_.data; }
  int64_t bytes() const { return block_.bytes; }  // as rounded up
  int64_t size() const { return size_; }          // bytes that were wanted
  bool read_only() const { return static_cast<bool>(release_); }
  const Pool* pool() const { return pool_.get(); }
  // No enqueued work uses this memory yet.
  bool idle() const { return device_->stream().completed() >= block_.last_use; }

  Validity validity;
  // What the exact values of its 16-bit elements need, once an optimizer trains them:
  // optim/exact_rows.h, layer/exact_rows.h.
  std::shared_ptr<Storage> exact;
  WriteLog writes;
  KnownIndices known_indices;

 private:
  friend class Device;
  std::shared_ptr<Pool> open_pool() const;
  Block allocate(int64_t bytes) const;
  void link();
  void abandon() noexcept;  // at the end of the device

  std::function<void()> release_;
  Storage* next_unused_ = nullptr;
};

template <class F>
void Device::each_storage(const F& f) {
  for (Storage* s = storages_; s; s = s->next_) f(*s);
}

// Ends a storage after its last use: at once, or with the open batch.
template <class T>
struct StorageAllocator {
  using value_type = T;

  StorageAllocator() = default;
  template <class U>
  StorageAllocator(const StorageAllocator<U>&) {}
  T* allocate(size_t count) { return std::allocator<T>().allocate(count); }
  void deallocate(T* memory, size_t count) { std::allocator<T>().deallocate(memory, count); }
  void destroy(Storage* storage) noexcept { storage->device().end(*storage); }
  bool operator==(const StorageAllocator&) const = default;
};

// The one way to make a storage.
template <class... Args>
std::shared_ptr<Storage> new_storage(Args&&... args) {
  return std::allocate_shared<Storage>(StorageAllocator<Storage>(), std::forward<Args>(args)...);
}

// The bytes of its storage that a view is of: begin, end.
inline std::pair<int64_t, int64_t> byte_range(const View& v) {
  const int64_t begin =
      static_cast<const char*>(v.data) - static_cast<const char*>(v.storage->data());
  return {begin, begin + v.bytes()};
}

// To be called before work is enqueued that writes to a view, and after.
inline void announce_write(const View& v) {
  if (!v.storage) return;
  const auto [begin, end] = byte_range(v);
  v.storage->writes.announce(begin, end);
}
inline void count_write(const View& v) noexcept {
  if (!v.storage) return;
  const auto [begin, end] = byte_range(v);
  v.storage->writes.add(begin, end);
}

struct Tensor {
  std::shared_ptr<Storage> storage;
  int64_t offset = 0;  // bytes
  DType dtype = DType::f32;
  Shape shape;

  explicit operator bool() const { return storage != nullptr; }
  Device& device() const { return storage->device(); }
  int64_t size() const { return shape.size(); }
  int64_t bytes() const { return size() * bytes_of(dtype); }
  View view() const {
    if (!storage) return {};
    return {static_cast<char*>(storage->data()) + offset, dtype, true, shape, storage.get()};
  }
  Tensor reshaped(const Shape& to) const {
    Tensor t = *this;
    t.shape = to;
    return t;
  }
};

inline Tensor empty(Device& device, const Shape& shape, DType dtype = DType::f32) {
  expect_valid("tensor", "shape", shape);
  return {new_storage(device.shared_from_this(), shape.size() * bytes_of(dtype)), 0, dtype, shape};
}

}  // namespace ml
