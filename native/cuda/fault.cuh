#pragma once
// The device's record of the checks that failed (an index out of range), and the guard that every
// kernel reads first. A check that the host does not know the result of has a bit of its own; a
// kernel is launched with the bits of the checks that it depends on, and does nothing where one of
// them has failed.

#include <cstdint>

#include "core/half.h"
#include "cuda/namespace.h"

namespace ml::ML_CUDA_NAMESPACE {

inline constexpr int kChecks = 32;                    // bits
inline constexpr uint32_t kGraphChecks = 16;          // at most, of a graph
inline constexpr uint32_t kAllChecks = ~uint32_t{0};  // bits
inline constexpr uint64_t kNoPosition = ~uint64_t{0};

ML_HOST_DEVICE constexpr uint32_t bit_of(uint32_t check) { return uint32_t{1} << check; }

// What a check that failed has found.
struct FaultRecord {
  uint64_t position;
  uint32_t site;          // which of the checks of its work
  int32_t value, before;  // at the position, and before it
};

struct CheckState {
  uint32_t failed;     // bits
  uint32_t arrived;    // blocks of the running check
  uint64_t candidate;  // lowest bad position they have found
  FaultRecord records[kChecks];
};

// Which checks of the stream those of a graph are.
struct CheckMap {
  uint8_t check[kGraphChecks];
  uint32_t count;
};

// What a stream or a graph has on the device.
inline constexpr uint32_t kArrivals = 4096;  // at least the blocks of a grid-stride grid
struct StreamState : CheckState {
  uint32_t arrivals[kArrivals];  // blocks of the running kernel (last_block.cuh), 0 between kernels
};

struct Guard {
  CheckState* state;  // of a StreamState
  uint32_t checks;    // that the kernel depends on, as bits

  // Uniform over the grid: a bit changes between kernels, or after all blocks of a check have read
  // the guard.
  __device__ bool aborted() const { return (state->failed & checks) != 0; }
  __device__ uint32_t* arrivals() const { return static_cast<StreamState*>(state)->arrivals; }
};

}  // namespace ml::ML_CUDA_NAMESPACE
