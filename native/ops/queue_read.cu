// QueueRead (ops/queue_read.h), elementwise.

#include "ops/queue_read.h"

#include <algorithm>

#include "cuda/map.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

struct QueueReadRule {
  int32_t* queued_indices;
  float* queued_weights;
  const int32_t* indices;
  const float* weights;
  template <int n>
  __device__ void at(int64_t i) const {
    store<n>(queued_indices + i, load<n>(indices + i));
    store<n>(queued_weights + i, load<n>(weights + i));
  }
};

}  // namespace

void queue_read(CudaStream& stream, const QueueRead& a) {
  stream.check_indices("embeddingBagBackward", "indices", a.indices, a.slots);
  map(stream,
      QueueReadRule{.queued_indices = a.queued_indices.as<int32_t>(),
                    .queued_weights = a.queued_weights.as<float>(),
                    .indices = a.indices.as<int32_t>(),
                    .weights = a.weights.as<float>()},
      a.indices.size(), std::min(aligned<int32_t>(a.indices), aligned<float>(a.weights)));
}

}  // namespace ml::ML_CUDA_NAMESPACE
