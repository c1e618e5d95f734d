// Top-k (ops/topk.h): warps list the k largest of chunks of a row, and one warp merges the lists;
// for large k, a radix sort of the row.

#include "ops/topk.h"

#include "cuda/launch.cuh"
#include "cuda/select.cuh"
#include "cuda/sort.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// One warp lists the k largest of one chunk of a row. lists [rows, chunks, capacity]
__global__ void __launch_bounds__(kTopKWarps* kWarp)
    list_chunks_kernel(Guard guard, uint64_t* lists, const float* x, int64_t rows, int64_t n,
                       int64_t k, int64_t chunks, int64_t chunk_size) {
  if (guard.aborted()) return;
  const int64_t capacity = list_capacity(k);
  uint64_t* own =
      reinterpret_cast<uint64_t*>(shared_bytes()) + warp_of_block() * (capacity + kWarp);
  // [0, rows * chunks) and past it
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kTopKWarps + warp_of_block();
  if (item < rows * chunks) {
    Selection<KeyBuffer> s{.list = own,
                           .buffer = {own + capacity},
                           .capacity = capacity,
                           .k = k,
                           .count = 0,
                           .threshold = 0};
    for (int64_t i = lane(); i < capacity; i += kWarp) s.list[i] = 0;
    const float* row = x + item / chunks * n;
    const int64_t begin = item % chunks * chunk_size;
    const int64_t end = begin + chunk_size < n ? begin + chunk_size : n;
    for (int64_t i = begin; i < end; i += kWarp) {
      const int64_t at = i + lane();
      s.offer(at < end ? ordered_bits(row[at]) : 0, static_cast<uint32_t>(at));
    }
    if (s.count > 0) s.merge();
    for (int64_t i = lane(); i < capacity; i += kWarp) lists[item * capacity + i] = s.list[i];
  }
}

// One warp merges the lists of a row's chunks and writes the row's k.
__global__ void __launch_bounds__(kTopKWarps* kWarp)
    merge_lists_kernel(Guard guard, float* values, int32_t* indices, uint64_t* lists,
                       const float* x, int64_t rows, int64_t n, int64_t k, int64_t chunks) {
  if (guard.aborted()) return;
  const int64_t capacity = list_capacity(k);
  // [0, rows) and past it
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kTopKWarps + warp_of_block();
  if (row < rows) {
    uint64_t* list = lists + row * chunks * capacity;
    for (int64_t c = 1; c < chunks; ++c) insert_list(list, capacity, list + c * capacity);
    for (int64_t r = lane(); r < k; r += kWarp) {
      const uint32_t index = index_of(list[r]);
      values[row * k + r] = x[row * n + index];
      indices[row * k + r] = static_cast<int32_t>(index);
    }
  }
}

// One thread makes the pair of one element; ascending pairs are the order of top-k.
__global__ void __launch_bounds__(kThreads)
    pairs_kernel(Guard guard, uint64_t* pairs, const float* row, int64_t n) {
  if (guard.aborted()) return;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < n) pairs[i] = ~order_key(ordered_bits(row[i]), static_cast<uint32_t>(i));
}

// One thread writes one of the row's k.
__global__ void __launch_bounds__(kThreads)
    write_sorted_kernel(Guard guard, float* values, int32_t* indices, const uint64_t* pairs,
                        const float* row, int64_t k) {
  if (guard.aborted()) return;
  const int64_t r = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (r < k) {
    const uint32_t index = index_of(~pairs[r]);
    values[r] = row[index];
    indices[r] = static_cast<int32_t>(index);
  }
}

void topk_by_lists(CudaStream& stream, const TopK& a, int64_t rows, int64_t n, int64_t k) {
  const int64_t warps = stream.limits().multiprocessors * kTopKWarpsPerMultiprocessor;
  int64_t chunks = warps / rows < n / kMinTopKChunk ? warps / rows : n / kMinTopKChunk;
  if (chunks < 1) chunks = 1;
  const int64_t chunk_size = (n + chunks - 1) / chunks, capacity = list_capacity(k);
  uint64_t* lists = stream.scratch<uint64_t>(rows * chunks * capacity);
  const size_t bytes = kTopKWarps * static_cast<size_t>(capacity + kWarp) * sizeof(uint64_t);
  launch(list_chunks_kernel, dim3(blocks_for(rows * chunks, kTopKWarps)), dim3(kTopKWarps * kWarp),
         bytes, stream, lists, a.x.as<float>(), rows, n, k, chunks, chunk_size);
  launch(merge_lists_kernel, dim3(blocks_for(rows, kTopKWarps)), dim3(kTopKWarps * kWarp), 0,
         stream, a.values.as<float>(), a.indices.as<int32_t>(), lists, a.x.as<float>(), rows, n, k,
         chunks);
}

void topk_by_sorting(CudaStream& stream, const TopK& a, int64_t rows, int64_t n, int64_t k) {
  uint64_t* pairs = stream.scratch<uint64_t>(n);
  uint64_t* other = stream.scratch<uint64_t>(n);
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = a.x.as<float>() + r * n;
    launch(pairs_kernel, dim3(blocks_for(n, kThreads)), dim3(kThreads), 0, stream, pairs, row, n);
    // stable: equal values keep their ascending indices
    const uint64_t* sorted = sort_pairs(stream, pairs, other, n, 32, 64);
    launch(write_sorted_kernel, dim3(blocks_for(k, kThreads)), dim3(kThreads), 0, stream,
           a.values.as<float>() + r * k, a.indices.as<int32_t>() + r * k, sorted, row, k);
  }
}

}  // namespace

void topk(CudaStream& stream, const TopK& a) {
  const int64_t n = a.x.dim(-1), k = a.values.dim(-1), rows = a.x.size() / n;
  if (rows == 0) return;
  k <= kMaxListK ? topk_by_lists(stream, a, rows, n, k) : topk_by_sorting(stream, a, rows, n, k);
}

}  // namespace ml::ML_CUDA_NAMESPACE
