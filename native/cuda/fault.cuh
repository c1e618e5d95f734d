#pragma once
// The device's record of a fault (an index out of range) and the guard that every kernel asks first: while a fault is raised, all work
// is void, so no kernel reads or writes anything until the host has been told.

#include <cstdint>

#include "cuda/namespace.h"

namespace ml::ML_CUDA_NAMESPACE {

struct FaultRecord {
  uint64_t packed;  // position << 32 | value; the lowest bad position wins
  uint64_t site;    // which check of which operation, as the host knows it
  uint64_t ticket;  // the work that failed
  uint32_t raised;  // 0 or 1
};

struct Guard {
  const FaultRecord* record;

  // Uniform for the whole grid: the record changes between kernels only. (A kernel that raises must not ask this.)
  __device__ bool closed() const { return record->raised != 0; }
};

}  // namespace ml::ML_CUDA_NAMESPACE
