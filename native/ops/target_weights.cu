// Weights of targets in a mean (ops/target_weights.h): one block counts, then the grid writes.

#include "ops/target_weights.h"

#include <algorithm>

#include "cuda/block.cuh"
#include "cuda/launch.cuh"
#include "cuda/map.cuh"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// What one block finds: the number of targets that count, and 1 where there is none.
struct TargetCount {
  float weight;  // of each
  int32_t none;
};

struct CountScratch {
  float v[kWarp];
};

// One block; one thread counts every blockDim.x-th target. Counts are summed as two floats, of 12
// bits and of the rest, which keeps them exact.
__global__ void target_count_kernel(Guard guard, TargetCount* out, const int32_t* targets,
                                    int64_t tokens, int32_t ignore_index) {
  if (guard.aborted()) return;
  float* scratch = shared<CountScratch>().v;
  int64_t count = 0;
  for (int64_t t = threadIdx.x; t < tokens; t += blockDim.x)
    count += target_counts(targets[t], ignore_index);
  const float low = block_sum(static_cast<float>(count & 0xfff), scratch);
  const float high = block_sum(static_cast<float>(count >> 12), scratch);
  if (threadIdx.x == 0) {
    const int64_t total = (static_cast<int64_t>(high) << 12) + static_cast<int64_t>(low);
    *out = {.weight = 1.0f / static_cast<float>(total), .none = total == 0};
  }
}

struct TargetWeightsRule {
  int32_t* kept;
  float* weights;
  const int32_t* targets;
  const TargetCount* count;
  int32_t ignore_index;
  template <int n>
  __device__ void at(int64_t i) const {
    const Pack<int32_t, n> t = load<n>(targets + i);
    const float weight = count->weight;
    Pack<int32_t, n> k;
    Pack<float, n> w;
#pragma unroll
    for (int j = 0; j < n; ++j) {
      const bool counts = target_counts(t.v[j], ignore_index);
      k.v[j] = counts ? t.v[j] : -1;
      w.v[j] = counts ? weight : 0;
    }
    store<n>(kept + i, k);
    store<n>(weights + i, w);
  }
};

}  // namespace

void target_weights(CudaStream& stream, const TargetWeights& a) {
  const int64_t tokens = a.targets.size();
  if (tokens == 0) return;
  TargetCount* count = stream.scratch<TargetCount>(1);
  launch(target_count_kernel, 1, kThreads, sizeof(CountScratch), stream, count,
         a.targets.as<int32_t>(), tokens, a.ignore_index);
  stream.check_some_target("targetWeights", &count->none);
  const int n =
      std::min({aligned<int32_t>(a.kept), aligned<float>(a.weights), aligned<int32_t>(a.targets)});
  map(stream,
      TargetWeightsRule{.kept = a.kept.as<int32_t>(),
                        .weights = a.weights.as<float>(),
                        .targets = a.targets.as<int32_t>(),
                        .count = count,
                        .ignore_index = a.ignore_index},
      tokens, n);
}

}  // namespace ml::ML_CUDA_NAMESPACE
