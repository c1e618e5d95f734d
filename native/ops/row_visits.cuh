#pragma once
// An order of the touched rows for kernels that sum the whole gradient of a row at once, where dy
// is larger than L2. In ascending order their entries are anywhere in dy, and most reads of it
// miss. Here rows are visited together whose first entries are in one of kTokenBlocks parts of the
// reads, and whose last are in one: two of these parts, which L2 holds, have most of their rows of
// dy. The results do not depend on the order, since each row is summed alone.

#include "cuda/launch.cuh"
#include "cuda/sort.cuh"
#include "cuda/stream.h"
#include "ops/row_gradient.cuh"
#include "ops/sparse_grad.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// A visit is a number that sorts by the two parts: their key << 32 | touched row.
__device__ inline int32_t visited_row(uint64_t visit) { return static_cast<int32_t>(visit); }

// One thread makes the visit of one touched row. Those past the last row sort behind all.
__global__ void __launch_bounds__(kThreads)
    visits_kernel(Guard guard, uint64_t* visits, const int32_t* order, ResolvedRows t,
                  int64_t capacity, int64_t entries) {
  if (guard.aborted()) return;
  const int64_t r = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (r >= capacity) return;
  const auto part = [&](int32_t i) { return int64_t{order[i]} * kTokenBlocks / entries; };
  const int64_t key = r < t.count[0] ? part(t.starts[r]) * kTokenBlocks + part(t.starts[r + 1] - 1)
                                     : kTokenBlocks * kTokenBlocks;
  visits[r] = static_cast<uint64_t>(key) << 32 | static_cast<uint64_t>(r);
}

// visits [capacity], of which those of the touched rows are first; nullptr for the ascending order,
// where L2 holds dy beside what else goes through it.
inline const uint64_t* visit_by_tokens(CudaStream& stream, const ResolvedRows& t, const View& order,
                                       const std::vector<TableRead>& reads, int64_t capacity) {
  int64_t bytes = 0;
  for (const TableRead& r : reads) bytes += r.dy.bytes();
  if (bytes <= stream.limits().l2 / 2) return nullptr;
  auto* visits = stream.scratch<uint64_t>(capacity);
  launch(visits_kernel, dim3(blocks_for(capacity, kThreads)), dim3(kThreads), 0, stream, visits,
         order.as<int32_t>(), t, capacity, entry_count(reads));
  return sort_pairs(stream, visits, stream.scratch<uint64_t>(capacity), capacity, 32, 40);
}

}  // namespace
}  // namespace ml::ML_CUDA_NAMESPACE
