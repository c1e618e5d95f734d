#include "ops/topk.h"

#include "cuda/launch.cuh"
#include "cuda/select.cuh"
#include "cuda/sort.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

constexpr int kListWarps = 4;  // of a block
// greatest k of the lists, which then take 32 KB; beyond: a sort of the row
constexpr int64_t kMostListed = 1024;
constexpr int64_t kLeastPiece = 1024;       // elements of a row for one warp
constexpr int64_t kWarpsPerProcessor = 16;  // rows are cut until so many warps work

// One warp lists the best of one piece of a row. lists: [rows, pieces, room]
__global__ void __launch_bounds__(kListWarps* kWarp)
    list_kernel(Guard guard, uint64_t* lists, const float* x, int64_t rows, int64_t n, int64_t k,
                int64_t pieces, int64_t piece) {
  if (guard.aborted()) return;
  const int64_t room = list_room(k);
  uint64_t* own = reinterpret_cast<uint64_t*>(shared_bytes()) + warp_of_block() * (room + kWarp);
  // [0, rows * pieces) and past it
  const int64_t place = static_cast<int64_t>(blockIdx.x) * kListWarps + warp_of_block();
  if (place < rows * pieces) {
    Selection s{own, own + room, room, k, 0, 0};
    for (int64_t i = lane(); i < room; i += kWarp) s.list[i] = 0;
    const float* row = x + place / pieces * n;
    const int64_t begin = place % pieces * piece, end = begin + piece < n ? begin + piece : n;
    for (int64_t i = begin; i < end; i += kWarp) {
      const int64_t at = i + lane();
      s.offer(at < end ? ordered_bits(row[at]) : 0, static_cast<uint32_t>(at));
    }
    if (s.count > 0) s.merge();
    for (int64_t i = lane(); i < room; i += kWarp) lists[place * room + i] = s.list[i];
  }
}

// One warp joins the lists of a row's pieces and writes the row's k.
__global__ void __launch_bounds__(kListWarps* kWarp)
    join_kernel(Guard guard, float* values, int32_t* indices, uint64_t* lists, const float* x,
                int64_t rows, int64_t n, int64_t k, int64_t pieces) {
  if (guard.aborted()) return;
  const int64_t room = list_room(k);
  // [0, rows) and past it
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kListWarps + warp_of_block();
  if (row < rows) {
    uint64_t* list = lists + row * pieces * room;
    for (int64_t p = 1; p < pieces; ++p) insert_list(list, room, list + p * room);
    for (int64_t r = lane(); r < k; r += kWarp) {
      const uint32_t index = index_of(list[r]);
      values[row * k + r] = x[row * n + index];
      indices[row * k + r] = static_cast<int32_t>(index);
    }
  }
}

// One thread an element: pairs that ascend as the order goes.
__global__ void __launch_bounds__(kThreads)
    pair_kernel(Guard guard, uint64_t* pairs, const float* row, int64_t n) {
  if (guard.aborted()) return;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < n) pairs[i] = ~order_key(ordered_bits(row[i]), static_cast<uint32_t>(i));
}

__global__ void __launch_bounds__(kThreads)
    take_kernel(Guard guard, float* values, int32_t* indices, const uint64_t* pairs,
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
  const int64_t wanted = stream.limits().multiprocessors * kWarpsPerProcessor;
  int64_t pieces = wanted / rows < n / kLeastPiece ? wanted / rows : n / kLeastPiece;
  if (pieces < 1) pieces = 1;
  const int64_t piece = (n + pieces - 1) / pieces, room = list_room(k);
  uint64_t* lists = stream.scratch<uint64_t>(rows * pieces * room);
  const size_t bytes = kListWarps * static_cast<size_t>(room + kWarp) * sizeof(uint64_t);
  launch(list_kernel, dim3(blocks_for(rows * pieces, kListWarps)), dim3(kListWarps * kWarp), bytes,
         stream, lists, a.x.as<float>(), rows, n, k, pieces, piece);
  launch(join_kernel, dim3(blocks_for(rows, kListWarps)), dim3(kListWarps * kWarp), 0, stream,
         a.values.as<float>(), a.indices.as<int32_t>(), lists, a.x.as<float>(), rows, n, k, pieces);
}

void topk_by_sorting(CudaStream& stream, const TopK& a, int64_t rows, int64_t n, int64_t k) {
  uint64_t* pairs = stream.scratch<uint64_t>(n);
  uint64_t* other = stream.scratch<uint64_t>(n);
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = a.x.as<float>() + r * n;
    launch(pair_kernel, dim3(blocks_for(n, kThreads)), dim3(kThreads), 0, stream, pairs, row, n);
    // stable: equal values keep their ascending indices
    const uint64_t* sorted = sort_pairs(stream, pairs, other, n, 32, 64);
    launch(take_kernel, dim3(blocks_for(k, kThreads)), dim3(kThreads), 0, stream,
           a.values.as<float>() + r * k, a.indices.as<int32_t>() + r * k, sorted, row, k);
  }
}

}  // namespace

void topk(CudaStream& stream, const TopK& a) {
  const int64_t n = a.x.dim(-1), k = a.values.dim(-1), rows = a.x.size() / n;
  if (rows == 0) return;
  k <= kMostListed ? topk_by_lists(stream, a, rows, n, k) : topk_by_sorting(stream, a, rows, n, k);
}

}  // namespace ml::ML_CUDA_NAMESPACE
