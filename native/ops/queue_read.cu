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

struct QueueOffsetsRule {
  int32_t* queued_offsets;
  const int32_t* offsets;
  template <int n>
  __device__ void at(int64_t i) const {
    store<n>(queued_offsets + i, load<n>(offsets + i));
  }
};

}  // namespace

void queue_read(CudaStream& stream, const QueueRead& a) {
  if (!a.indices_known) stream.check_indices("embeddingBagBackward", "indices", a.indices, a.slots);
  map(stream,
      QueueReadRule{.queued_indices = a.queued_indices.as<int32_t>(),
                    .queued_weights = a.queued_weights.as<float>(),
                    .indices = a.indices.as<int32_t>(),
                    .weights = a.weights.as<float>()},
      a.indices.size(), std::min(aligned<int32_t>(a.indices), aligned<float>(a.weights)));
  if (!a.offsets) return;
  map(stream,
      QueueOffsetsRule{.queued_offsets = a.queued_offsets.as<int32_t>(),
                       .offsets = a.offsets.as<int32_t>()},
      a.offsets.size(), aligned<int32_t>(a.offsets));
}

}  // namespace ml::ML_CUDA_NAMESPACE
