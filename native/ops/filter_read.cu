// FilterRead (ops/filter_read.h), elementwise.

#include "ops/filter_read.h"

#include <algorithm>

#include "cuda/map.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

struct FilterReadRule {
  int32_t* filtered;
  const int32_t *indices, *chosen, *count;
  template <int n>
  __device__ void at(int64_t i) const {
    Pack<int32_t, n> p = load<n>(indices + i);
#pragma unroll
    for (int j = 0; j < n; ++j)
      if (!is_among(chosen, *count, p.v[j])) p.v[j] = -1;
    store<n>(filtered + i, p);
  }
};

}  // namespace

void filter_read(CudaStream& stream, const FilterRead& a) {
  map(stream,
      FilterReadRule{.filtered = a.filtered.as<int32_t>(),
                     .indices = a.indices.as<int32_t>(),
                     .chosen = a.chosen.as<int32_t>(),
                     .count = a.count.as<int32_t>()},
      a.indices.size(), std::min(aligned<int32_t>(a.filtered), aligned<int32_t>(a.indices)));
}

}  // namespace ml::ML_CUDA_NAMESPACE
