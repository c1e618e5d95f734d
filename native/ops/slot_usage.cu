// CountReads, ListReads and SlotUsage (ops/slot_usage.h).

#include "ops/slot_usage.h"

#include <algorithm>
#include <cmath>

#include "cuda/block_sum.cuh"
#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// What is counted by batches, or nullptrs.
struct BatchCounts {
  uint32_t *batches, *total;
  uint64_t* marks;
  uint64_t mark;  // of this batch: less than those before
  int32_t* touched;
  ReadSums* sums;
};

// Adds the entries of all lanes of a warp.
__device__ inline void add_entries(ReadSums* sums, uint64_t entries) {
#pragma unroll
  for (int bits = kWarp / 2; bits > 0; bits /= 2) entries += shuffle_xor(entries, bits);
  if (lane() == 0 && entries > 0) atomic_add(&sums->entries, entries);
}

// slots is below 2^31: its low half counts.
__device__ inline void add_touched(int32_t* touched, ReadSums* sums, uint32_t slot) {
  touched[atomic_add(reinterpret_cast<uint32_t*>(&sums->slots), 1u)] = static_cast<int32_t>(slot);
}

// One thread counts every (gridDim.x * kThreads)-th entry. Of the entries that read a slot, the one
// that finds the mark of an earlier batch counts the slot's batch.
__global__ void __launch_bounds__(kThreads)
    count_reads_kernel(Guard guard, uint32_t* counts, BatchCounts batch, const int32_t* indices,
                       int64_t n, uint32_t slots) {
  if (guard.aborted()) return;
  if (batch.total && blockIdx.x == 0 && threadIdx.x == 0) ++*batch.total;
  uint64_t entries = 0;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < n;
       i += int64_t{gridDim.x} * kThreads) {
    const auto slot = static_cast<uint32_t>(indices[i]);
    if (slot >= slots) continue;
    const bool first = atomic_add(counts + slot, 1u) == 0;
    if (!batch.batches) continue;
    ++entries;
    if (first) add_touched(batch.touched, batch.sums, slot);
    if (atomic_min(batch.marks + slot, batch.mark) > batch.mark)
      atomic_add(batch.batches + slot, 1u);
  }
  if (batch.batches) add_entries(batch.sums, entries);
}

__global__ void clear_sums_kernel(Guard guard, ReadSums* sums) {
  if (guard.aborted()) return;
  if (threadIdx.x == 0) *sums = {};
}

// One thread takes every (gridDim.x * kThreads)-th slot.
__global__ void __launch_bounds__(kThreads)
    list_reads_kernel(Guard guard, int32_t* touched, ReadSums* sums, const uint32_t* counts,
                      int64_t slots) {
  if (guard.aborted()) return;
  uint64_t entries = 0;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < slots;
       i += int64_t{gridDim.x} * kThreads) {
    const uint32_t count = counts[i];
    entries += count;
    if (count > 0) add_touched(touched, sums, static_cast<uint32_t>(i));
  }
  add_entries(sums, entries);
}

// The sums over the block, in every thread.
__device__ inline SlotStatistics block_sum(const SlotStatistics& s) {
  return {.reads = block_sum_f64(s.reads),
          .slots = block_sum_f64(s.slots),
          .ever = block_sum_f64(s.ever),
          .logs = block_sum_f64(s.logs)};
}

// One block takes every gridDim-th chunk; thread t the slots t, t + kThreads, … of it.
__global__ void __launch_bounds__(kThreads)
    partial_usage_kernel(Guard guard, SlotStatistics* partials, uint32_t* counts, int64_t slots) {
  if (guard.aborted()) return;
  for (int64_t chunk = blockIdx.x; chunk * kUsageChunk < slots; chunk += gridDim.x) {
    const int64_t end = (chunk + 1) * kUsageChunk < slots ? (chunk + 1) * kUsageChunk : slots;
    SlotStatistics s{};
    for (int64_t i = chunk * kUsageChunk + threadIdx.x; i < end; i += kThreads) {
      const uint32_t stored = counts[i], count = stored & ~kReadBefore;
      if (stored == 0) continue;
      counts[i] = kReadBefore;
      s.ever += 1;
      if (count == 0) continue;
      s.reads += count;
      s.slots += 1;
      s.logs += count * log(static_cast<double>(count));
    }
    s = block_sum(s);
    if (threadIdx.x == 0) partials[chunk] = s;
  }
}

// One block adds the chunks; thread t those of t, t + kThreads, …
__global__ void __launch_bounds__(kThreads)
    total_usage_kernel(Guard guard, SlotStatistics* stats, const SlotStatistics* partials,
                       int64_t chunks) {
  if (guard.aborted()) return;
  SlotStatistics s{};
  for (int64_t c = threadIdx.x; c < chunks; c += kThreads) {
    s.reads += partials[c].reads;
    s.slots += partials[c].slots;
    s.ever += partials[c].ever;
    s.logs += partials[c].logs;
  }
  s = block_sum(s);
  if (threadIdx.x == 0) *stats = s;
}

}  // namespace

void count_reads(CudaStream& stream, const CountReads& a) {
  const int64_t n = a.indices.size();
  if (a.batches) stream.check_indices("SlotCounter.add", "indices", a.indices, a.counts.size());
  launch(count_reads_kernel,
         dim3(std::max(1u, striding_blocks(n, kThreads, stream.limits().multiprocessors))),
         dim3(kThreads), 0, stream, a.counts.as<uint32_t>(),
         BatchCounts{.batches = a.batches.as<uint32_t>(),
                     .total = a.total.as<uint32_t>(),
                     .marks = a.marks.as<uint64_t>(),
                     .mark = batch_mark(a),
                     .touched = a.touched.as<int32_t>(),
                     .sums = a.sums.as<ReadSums>()},
         a.indices.as<int32_t>(), n, static_cast<uint32_t>(a.counts.size()));
}

void list_reads(CudaStream& stream, const ListReads& a) {
  const int64_t slots = a.counts.size();
  auto* sums = a.sums.as<ReadSums>();
  launch(clear_sums_kernel, dim3(1), dim3(kWarp), 0, stream, sums);
  launch(list_reads_kernel, dim3(striding_blocks(slots, kThreads, stream.limits().multiprocessors)),
         dim3(kThreads), 0, stream, a.touched.as<int32_t>(), sums, a.counts.as<uint32_t>(), slots);
}

void slot_usage(CudaStream& stream, const SlotUsage& a) {
  const int64_t slots = a.counts.size(), chunks = (slots + kUsageChunk - 1) / kUsageChunk;
  auto* partials = stream.scratch<SlotStatistics>(chunks);
  launch(partial_usage_kernel, dim3(striding_blocks(chunks, 1, stream.limits().multiprocessors)),
         dim3(kThreads), sizeof(BlockSumStorage), stream, partials, a.counts.as<uint32_t>(), slots);
  launch(total_usage_kernel, dim3(1), dim3(kThreads), sizeof(BlockSumStorage), stream,
         a.stats.as<SlotStatistics>(), partials, chunks);
}

}  // namespace ml::ML_CUDA_NAMESPACE
