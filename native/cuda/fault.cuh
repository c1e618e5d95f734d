#pragma once
// The device's record of a fault (an index out of range) and the guard that every kernel asks
// first: while a fault is raised, all work is void, so no kernel reads or writes anything until the
// host has been told.

#include <cstdint>

#include "cuda/namespace.h"

namespace ml::ML_CUDA_NAMESPACE {

inline constexpr uint64_t kNoPosition = ~uint64_t{0};

struct FaultRecord {
  uint32_t raised;     // 0 or 1
  uint32_t arrived;    // blocks of the check that is running
  uint64_t candidate;  // lowest bad position that they have found
  // Of the fault that is raised:
  uint64_t position;
  uint64_t ticket;        // the work that failed; 0: a recorded graph, see `replay`
  uint32_t site;          // which check of which operation, as the host knows it
  int32_t value, before;  // what stands at the position, and before it
  uint64_t replay;        // ticket of the newest replay of a graph
};

struct Guard {
  FaultRecord* record;

  // Uniform for the whole grid: the record changes between kernels, or when all blocks of a check
  // have asked.
  __device__ bool aborted() const { return record->raised != 0; }
};

}  // namespace ml::ML_CUDA_NAMESPACE
