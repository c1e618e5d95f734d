#pragma once
// State of one environment (main thread or worker): no static JS references anywhere.

#include <napi.h>

#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "device/device.h"

namespace ml::binding {

// Memory for the objects behind handles, taken before a call does anything: once its work is
// enqueued, its results can be handed over without memory.
class SpareBlocks {
 public:
  static constexpr size_t kBytes = 192;  // of a block
  static constexpr size_t kCount = 12;   // the handles that a call which changes something makes

  SpareBlocks() = default;
  ~SpareBlocks();
  SpareBlocks(const SpareBlocks&) = delete;
  SpareBlocks& operator=(const SpareBlocks&) = delete;

  // Throws std::bad_alloc.
  void fill() {
    while (count_ < blocks_.size()) blocks_[count_++] = ::operator new(kBytes);
  }
  void* take() { return count_ > 0 ? blocks_[--count_] : ::operator new(kBytes); }

 private:
  std::array<void*, kCount> blocks_{};
  size_t count_ = 0;
};

// The objects behind the handles that the calls at hand have made: a call that throws hands none of
// them over, so what they hold is released at once and not when JavaScript collects the handles.
class MadeHandles {
 public:
  using Release = void (*)(napi_env env, void* object);

  // So that `more` add()s take no memory. Throws std::bad_alloc.
  void reserve(size_t more) {
    if (made_.capacity() < made_.size() + more) made_.reserve(2 * made_.size() + more);
  }
  void add(void* object, Release release) { made_.push_back({object, release}); }
  size_t count() const { return made_.size(); }
  // Those after the first `count` are handed over.
  void forget(size_t count) noexcept { made_.resize(count); }
  void release(napi_env env, size_t count) noexcept {
    for (; made_.size() > count; made_.pop_back()) made_.back().release(env, made_.back().object);
  }

 private:
  struct Made {
    void* object;
    Release release;
  };
  std::vector<Made> made_;
};

// The function that delivers, for threads that may outlive the environment: which frees it.
class DeliveryDoor {
 public:
  explicit DeliveryDoor(napi_threadsafe_function deliver) : deliver_(deliver) {}
  // On any thread. What comes after close() stays undelivered: nobody waits for it any more.
  void deliver(void* what) {
    const std::lock_guard lock(mutex_);
    if (deliver_) napi_call_threadsafe_function(deliver_, what, napi_tsfn_nonblocking);
  }
  void close() {
    const std::lock_guard lock(mutex_);
    deliver_ = nullptr;
  }

 private:
  std::mutex mutex_;
  napi_threadsafe_function deliver_;
};

struct Addon {
  napi_ref error_class = nullptr;        // MemoryLayersError(code, message), given by lib/ at load
  Napi::FunctionReference array_buffer;  // the constructor
  uint64_t crossings = 0;                // calls from JavaScript, counted for tests
  napi_threadsafe_function deliver = nullptr;
  std::shared_ptr<DeliveryDoor> door;
  int64_t waiting = 0;  // promises not settled yet: they keep the process alive
  std::vector<std::weak_ptr<Device>> devices;
  SpareBlocks spare_blocks;
  MadeHandles made_handles;
};

inline constexpr const char* kNoBookkeeping = "no memory left for the bookkeeping of this call.";

Addon& addon_of(Napi::Env env);
void start(Napi::Env env);  // makes the Addon, its thread-safe function and its clean-up hook

// Any call into the environment may fail: a worker can be terminated between two of them.
inline void check_napi(Napi::Env env, napi_status status) {
  if (status != napi_ok) throw Napi::Error::New(env);
}

// A new ArrayBuffer; throws ERR_OUT_OF_MEMORY where there is no memory for it.
Napi::ArrayBuffer new_array_buffer(Napi::Env env, size_t bytes);

// A promise of the bytes of a view, or of nothing but the end of all work so far. `value` makes its
// result on the JavaScript thread and keeps alive what `target` belongs to. Rejects with the fault
// of the view; without a view with the earliest fault that was not reported.
// `settles` says whether a fault rejects it.
using MakeValue = std::function<Napi::Value(Napi::Env)>;
enum class Settles { with_fault, without_fault };
Napi::Promise read_later(Napi::Env env, const std::shared_ptr<Device>& device, void* target,
                         const View& source, MakeValue value,
                         Settles settles = Settles::with_fault);

// A promise that any thread settles, once: with what `value` makes, or with an error. `start` gets
// the function that settles it.
using SettlePromise = std::function<void(std::optional<Error>)>;
Napi::Promise promise_later(Napi::Env env, MakeValue value,
                            const std::function<void(SettlePromise)>& start);

// A MemoryLayersError, made without memory of the addon, about a rank if that is not -1. Empty
// where the environment can't make one: it is being torn down.
Napi::Value make_error(Napi::Env env, const char* code, const char* message,
                       int rank = -1) noexcept;

}  // namespace ml::binding
