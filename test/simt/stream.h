#pragma once
// Streams: each a host thread that runs its work in order. While a stream is being captured, its
// work is recorded instead.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "core/failure.h"
#include "simt/runtime.h"

namespace simt {

using Work = std::function<void()>;

// Remembers the error for cudaGetLastError and returns it.
toolkit::cudaError_t result(toolkit::cudaError_t error);

// One call of the runtime. A test may make it fail; the emulator's own memory is not counted.
class RuntimeCall {
 public:
  // Whether this call must fail.
  bool refused() const { return refused_; }

 private:
  bool refused_ = ml::fails(ml::Failure::cuda);
  ml::Uncounted uncounted_;
};

struct CallCounts {
  std::atomic<uint64_t> launches{0}, allocations{0}, frees{0}, timed_events{0};
  std::atomic<uint64_t> event_queries{0}, event_waits{0};
};
inline CallCounts call_counts;

toolkit::CUstream_st& stream_of(toolkit::cudaStream_t stream);  // the default stream for null
// Whether the calling thread's current device has the stream: launches, events and captures fail on
// another.
bool on_current_device(const toolkit::CUstream_st& stream);
int current_device();  // of the calling thread

}  // namespace simt

namespace simt::toolkit {

struct CUgraph_st {
  std::vector<simt::Work> work;
};
struct CUgraphExec_st {
  std::vector<simt::Work> work;
};

struct CUstream_st {
  explicit CUstream_st(int on);
  ~CUstream_st();
  void enqueue(simt::Work work);  // or record
  void drain();                   // waits until all work so far has run
  bool idle();

  const int device;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<simt::Work> queue;
  bool busy = false, stopping = false;
  bool invalidated = false;                          // a call during the capture was not allowed
  std::optional<std::vector<simt::Work>> recording;  // while being captured
  std::thread worker;
};

}  // namespace simt::toolkit
