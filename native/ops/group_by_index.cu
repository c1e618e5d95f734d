// Entries by what they choose (ops/group_by_index.h): the sort of a sparse gradient, then where
// groups and entries are.

#include "ops/group_by_index.h"

#include <algorithm>

#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"
#include "ops/sparse_grad.h"

namespace ml::ML_CUDA_NAMESPACE {

void sort_rows(CudaStream& stream, const SortRows& a);  // ops/sparse_grad.cu

namespace {

// The groups that have an entry, ascending, and where their entries begin.
struct ChosenGroups {
  const int32_t *rows, *starts, *count;
};

// One thread writes where one group begins: where the first chosen one from it on does.
__global__ void __launch_bounds__(kThreads)
    group_offsets_kernel(Guard guard, int32_t* offsets, ChosenGroups chosen, int64_t groups) {
  if (guard.aborted()) return;
  const int64_t g = int64_t{blockIdx.x} * kThreads + threadIdx.x;  // [0, groups]
  if (g > groups) return;
  int32_t low = 0, high = chosen.count[0];
  while (low < high) {
    const int32_t middle = low + (high - low) / 2;
    if (chosen.rows[middle] < g)
      low = middle + 1;
    else
      high = middle;
  }
  offsets[g] = chosen.starts[low];
}

// One thread writes the bag and the position of the i-th entry of `order`, and the position of
// entry i if it is padding.
__global__ void __launch_bounds__(kThreads)
    entry_positions_kernel(Guard guard, int32_t* order, int32_t* bags, int32_t* positions,
                           const int32_t* indices, ChosenGroups chosen, int64_t entries,
                           int32_t bag_size) {
  if (guard.aborted()) return;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= entries) return;
  if (indices[i] < 0) positions[i] = -1;
  if (i < chosen.starts[chosen.count[0]]) {
    const int32_t entry = order[i];
    bags[i] = entry / bag_size;
    positions[entry] = static_cast<int32_t>(i);
  } else {
    order[i] = bags[i] = -1;
  }
}

}  // namespace

void group_by_index(CudaStream& stream, const GroupByIndex& a) {
  const int64_t entries = a.indices.size(), capacity = std::min(entries, a.groups);
  auto* rows = stream.scratch<int32_t>(capacity);
  auto* starts = stream.scratch<int32_t>(capacity + 1);
  auto* count = stream.scratch<int32_t>(1);
  sort_rows(stream, {.rows = {.data = rows},
                     .starts = {.data = starts},
                     .order = a.order,
                     .count = {.data = count},
                     .reads = {{.indices = a.indices}},
                     .slots = a.groups,
                     .op = "groupByIndex"});
  const ChosenGroups chosen{.rows = rows, .starts = starts, .count = count};
  launch(group_offsets_kernel, dim3(blocks_for(a.groups + 1, kThreads)), dim3(kThreads), 0, stream,
         a.offsets.as<int32_t>(), chosen, a.groups);
  if (entries == 0) return;
  launch(entry_positions_kernel, dim3(blocks_for(entries, kThreads)), dim3(kThreads), 0, stream,
         a.order.as<int32_t>(), a.bags.as<int32_t>(), a.positions.as<int32_t>(),
         a.indices.as<int32_t>(), chosen, entries, static_cast<int32_t>(a.indices.dim(1)));
}

}  // namespace ml::ML_CUDA_NAMESPACE
