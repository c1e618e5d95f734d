#include "cuda/checks.h"

#include <algorithm>
#include <cstring>

#include "cuda/block.cuh"
#include "cuda/launch.cuh"
#include "cuda/tuning.h"
#include "cuda/vec.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// The rules of core/index_error.h: indices and targets, offsets, and numbers by their bits.
struct IndexRule {
  int64_t limit;
  __device__ bool bad(const int32_t* values, int64_t i) const {
    return !is_index(values[i], limit);
  }
};

struct OffsetRule {
  int64_t entries, last;
  __device__ bool bad(const int32_t* values, int64_t i) const {
    return !is_offset(values, i, last, entries);
  }
};

struct FiniteRule {
  __device__ bool bad(const int32_t* values, int64_t i) const {
    return !is_finite_float(values[i]);
  }
};

// One thread checks every (gridDim.x * blockDim.x)-th value. The last block to arrive sets the bit
// of the check: every block has read the guard by then.
template <class Rule>
__global__ void check_kernel(Guard guard, Rule rule, uint32_t site, uint32_t check,
                             const int32_t* values, int64_t n) {
  if (guard.aborted()) return;
  CheckState* state = guard.state;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  uint64_t lowest = kNoPosition;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step)
    if (rule.bad(values, i) && lowest == kNoPosition) lowest = static_cast<uint64_t>(i);
  if (lowest != kNoPosition) atomic_min(&state->candidate, lowest);
  block_sync();
  if (threadIdx.x == 0 && atomic_add_acq_rel(&state->arrived, 1u) == gridDim.x - 1) {
    state->arrived = 0;  // for the next check
    const uint64_t position = atomic_min(&state->candidate, kNoPosition);
    if (position != kNoPosition) {
      state->candidate = kNoPosition;
      state->records[check] = {.position = position,
                               .site = site,
                               .value = values[position],
                               .before = position > 0 ? values[position - 1] : 0};
      state->failed |= bit_of(check);
    }
  }
}

// One thread clears bits.
__global__ void clear_kernel(Guard guard, uint32_t checks) {
  CheckState* state = guard.state;
  state->failed = checks == kAllChecks ? 0 : state->failed & ~checks;
  state->arrived = 0;
  state->candidate = kNoPosition;
}

// One thread copies the failures of a graph.
__global__ void failures_kernel(Guard guard, const CheckState* graph, CheckMap map) {
  CheckState* state = guard.state;
  for (uint32_t i = 0; i < map.count; ++i) {
    if (!(graph->failed & bit_of(i))) continue;
    state->records[map.check[i]] = graph->records[i];
    state->failed |= bit_of(map.check[i]);
  }
}

struct UploadArgument {
  uint8_t bytes[kUploadChunk];
};

// One block; one thread i stores the bytes i, i + blockDim.x, …
__global__ void upload_kernel(Guard guard, uint8_t* target, UploadArgument data, int bytes) {
  if (guard.aborted()) return;
  for (int i = static_cast<int>(threadIdx.x); i < bytes; i += static_cast<int>(blockDim.x))
    target[i] = data.bytes[i];
}

}  // namespace

void enqueue_check(CudaStream& stream, const FaultSite& site, uint32_t number, uint32_t check,
                   const int32_t* values, int64_t n) {
  const unsigned grid =
      striding_blocks(n, kThreads * kCheckedValuesPerThread, stream.limits().multiprocessors);
  if (site.kind == FaultSite::Kind::offsets) {
    launch(check_kernel<OffsetRule>, grid, kThreads, 0, stream,
           OffsetRule{.entries = site.limit, .last = n - 1}, number, check, values, n);
  } else if (site.kind == FaultSite::Kind::finite) {
    launch(check_kernel<FiniteRule>, grid, kThreads, 0, stream, FiniteRule{}, number, check, values,
           n);
  } else {
    launch(check_kernel<IndexRule>, grid, kThreads, 0, stream, IndexRule{.limit = site.limit},
           number, check, values, n);
  }
}

void enqueue_clear(CudaStream& stream, uint32_t checks) {
  launch(clear_kernel, 1, 1, 0, stream, checks);
}

void enqueue_failures(CudaStream& stream, const CheckState* graph, const CheckMap& map) {
  launch(failures_kernel, 1, 1, 0, stream, graph, map);
}

void enqueue_upload(CudaStream& stream, void* target, const void* source, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += kUploadChunk) {
    UploadArgument data{};
    const int64_t size = std::min(kUploadChunk, bytes - at);
    std::memcpy(data.bytes, static_cast<const char*>(source) + at, static_cast<size_t>(size));
    launch(upload_kernel, 1, kThreads, 0, stream, static_cast<uint8_t*>(target) + at, data,
           static_cast<int>(size));
  }
}

}  // namespace ml::ML_CUDA_NAMESPACE
