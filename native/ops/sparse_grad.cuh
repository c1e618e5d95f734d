#pragma once
// What the CUDA schedules of the sparse gradient and the sparse update share.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "ops/row_gradient.cuh"
#include "ops/sparse_grad.h"

namespace ml::ML_CUDA_NAMESPACE {

class CudaStream;

// Resolves every entry and sums the chunks of hot rows, in scratch memory of this operation.
ResolvedRows resolve_rows(CudaStream& stream, const View& rows, const View& starts,
                          const View& order, const View& count, const std::vector<TableRead>& reads,
                          int64_t width);

// Adds the lane's squares of a gradient, in float64: they neither overflow nor vanish where the
// gradient does not.
template <class Slice>
__device__ inline void add_squares(double& sum, const Slice& g) {
#pragma unroll
  for (int v = 0; v < Slice::vectors; ++v)
#pragma unroll
    for (int e = 0; e < Slice::n; ++e) sum += static_cast<double>(g.v[v][e]) * g.v[v][e];
}

// Whether rows of `width` floats can be accessed in packs of four.
inline bool vec4_aligned(const View& rows, int64_t width) {
  return width % 4 == 0 && reinterpret_cast<uintptr_t>(rows.data) % 16 == 0;
}
inline bool vec4_aligned(const std::vector<TableRead>& reads, int64_t width) {
  return width % 4 == 0 && std::all_of(reads.begin(), reads.end(), [&](const TableRead& r) {
           return vec4_aligned(r.dy, width);
         });
}

}  // namespace ml::ML_CUDA_NAMESPACE
