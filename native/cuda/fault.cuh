#pragma once
// The device's record of a fault (an index out of range), and the guard that every kernel reads
// first: while a fault is raised all work is void, so no kernel reads or writes anything until the
// host has cleared it.

#include <cstdint>

#include "cuda/namespace.h"

namespace ml::ML_CUDA_NAMESPACE {

inline constexpr uint64_t kNoPosition = ~uint64_t{0};

struct FaultRecord {
  uint32_t raised;     // 0 or 1
  uint32_t arrived;    // blocks of the running check
  uint64_t candidate;  // lowest bad position they have found
  // Of the raised fault:
  uint64_t position;
  uint64_t ticket;        // the work that failed; 0: of a recorded graph, see `replay`
  uint32_t site;          // index into the FaultSites of the stream
  int32_t value, before;  // at the position, and before it
  uint64_t replay;        // ticket of the newest replay of a graph
};

struct Guard {
  FaultRecord* record;

  // A sticky flag, uniform over the grid: the record changes between kernels, or after all blocks
  // of a check have read it.
  __device__ bool aborted() const { return record->raised != 0; }
};

}  // namespace ml::ML_CUDA_NAMESPACE
