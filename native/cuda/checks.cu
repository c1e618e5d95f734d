#include "cuda/checks.h"

#include <algorithm>
#include <cstring>

#include "cuda/block.cuh"
#include "cuda/launch.cuh"
#include "cuda/tuning.h"
#include "cuda/vec.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// The rules of core/index_error.h: indices and targets, and offsets.
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

// One thread checks every (gridDim.x * blockDim.x)-th value. The last block to arrive raises the
// fault: every block has read the guard by then.
template <class Rule>
__global__ void check_kernel(Guard guard, Rule rule, uint32_t site, uint64_t ticket,
                             const int32_t* values, int64_t n) {
  if (guard.aborted()) return;
  FaultRecord* record = guard.record;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  uint64_t lowest = kNoPosition;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step)
    if (rule.bad(values, i) && lowest == kNoPosition) lowest = static_cast<uint64_t>(i);
  if (lowest != kNoPosition) atomic_min(&record->candidate, lowest);
  block_sync();
  if (threadIdx.x == 0 && atomic_add_acq_rel(&record->arrived, 1u) == gridDim.x - 1) {
    record->arrived = 0;  // for the next check
    const uint64_t position = atomic_min(&record->candidate, kNoPosition);
    if (position != kNoPosition) {
      record->position = position;
      record->value = values[position];
      record->before = position > 0 ? values[position - 1] : 0;
      record->ticket = ticket;
      record->site = site;
      record->raised = 1;
    }
  }
}

// One thread clears the fault.
__global__ void clear_kernel(Guard guard) {
  guard.record->raised = 0;
  guard.record->arrived = 0;
  guard.record->candidate = kNoPosition;
}

// One thread records the ticket of a replay.
__global__ void replay_kernel(Guard guard, uint64_t ticket) {
  if (guard.aborted()) return;
  guard.record->replay = ticket;
}

// One thread copies every (gridDim.x * blockDim.x)-th pack of n bytes.
template <int n>
__global__ void copy_kernel(Guard guard, uint8_t* target, const uint8_t* source, int64_t packs) {
  if (guard.aborted()) return;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < packs; i += step)
    store<n>(target + i * n, load<n>(source + i * n));
}

struct UploadArgument {
  uint8_t bytes[kUploadChunk];
};

// One block; one thread i stores the bytes i, i + blockDim.x, …
__global__ void upload_kernel(Guard guard, uint8_t* target, UploadArgument data, int bytes,
                              bool fresh) {
  if (!fresh && guard.aborted()) return;
  for (int i = static_cast<int>(threadIdx.x); i < bytes; i += static_cast<int>(blockDim.x))
    target[i] = data.bytes[i];
}

}  // namespace

void enqueue_check(CudaStream& stream, const FaultSite& site, uint32_t number, uint64_t ticket,
                   const int32_t* values, int64_t n) {
  const unsigned grid =
      striding_blocks(n, kThreads * kCheckedValuesPerThread, stream.limits().multiprocessors);
  if (site.kind == FaultSite::Kind::offsets) {
    launch(check_kernel<OffsetRule>, grid, kThreads, 0, stream,
           OffsetRule{.entries = site.limit, .last = n - 1}, number, ticket, values, n);
  } else {
    launch(check_kernel<IndexRule>, grid, kThreads, 0, stream, IndexRule{.limit = site.limit},
           number, ticket, values, n);
  }
}

void enqueue_clear(CudaStream& stream) { launch(clear_kernel, 1, 1, 0, stream); }

void enqueue_replay(CudaStream& stream, uint64_t ticket) {
  launch(replay_kernel, 1, 1, 0, stream, ticket);
}

void enqueue_copy(CudaStream& stream, void* target, const void* source, int64_t bytes) {
  auto* to = static_cast<uint8_t*>(target);
  const auto* from = static_cast<const uint8_t*>(source);
  const auto copy = [&](auto kernel, int64_t packs) {
    launch(kernel, striding_blocks(packs, kThreads, stream.limits().multiprocessors), kThreads, 0,
           stream, to, from, packs);
  };
  const uintptr_t low_bits = reinterpret_cast<uintptr_t>(target) |
                             reinterpret_cast<uintptr_t>(source) | static_cast<uintptr_t>(bytes);
  if (low_bits % 16 == 0) return copy(copy_kernel<16>, bytes / 16);
  if (low_bits % 4 == 0) return copy(copy_kernel<4>, bytes / 4);
  copy(copy_kernel<1>, bytes);
}

void enqueue_upload(CudaStream& stream, void* target, const void* source, int64_t bytes,
                    bool fresh) {
  for (int64_t at = 0; at < bytes; at += kUploadChunk) {
    UploadArgument data{};
    const int64_t size = std::min(kUploadChunk, bytes - at);
    std::memcpy(data.bytes, static_cast<const char*>(source) + at, static_cast<size_t>(size));
    launch(upload_kernel, 1, kThreads, 0, stream, static_cast<uint8_t*>(target) + at, data,
           static_cast<int>(size), fresh);
  }
}

}  // namespace ml::ML_CUDA_NAMESPACE
