#pragma once
// A warp cut into equal groups of lanes, each of which walks rows of its own, so that a narrow row
// leaves no lanes idle. All groups of a warp go through the same loops together, for as many steps
// as the longest needs, so every shuffle is over all 32 lanes.

#include <cstdint>

#include "cuda/namespace.h"
#include "cuda/warp.cuh"

namespace ml::ML_CUDA_NAMESPACE {

struct LaneGroup {
  int lanes;  // of a group: 8, 16 or 32
  int lane;   // within the group
  int first;  // lane of the warp where the group begins

  // Lane `l` of this group as a lane of the warp.
  __device__ int at(int l) const { return first + l; }
};

__device__ inline LaneGroup lane_group(int lanes) {
  return {lanes, lane() & (lanes - 1), lane() & ~(lanes - 1)};
}

// The number of this thread's group in its block.
__device__ inline int group_of_block(const LaneGroup& group) {
  return static_cast<int>(threadIdx.x) / group.lanes;
}

// The sum over the lanes of a group; every lane gets it.
template <class T>
__device__ inline T group_sum(const LaneGroup& group, T x) {
  for (int bit = group.lanes / 2; bit > 0; bit /= 2) x += shuffle_xor(x, bit);
  return x;
}

// `rows` sums over the lanes of a group at once, by recursive halving: with every exchange a lane
// keeps half of its sums, so 4 sums take 2 + 1 + log2(lanes / 4) shuffles instead of 4 log2(lanes).
// Lane l gets sum l / (lanes / rows).
template <int rows>
__device__ inline float group_sums(const LaneGroup& group, float (&sums)[rows]) {
  int bit = group.lanes / 2;
#pragma unroll
  for (int kept = rows / 2; kept > 0; kept /= 2, bit /= 2) {
    const bool upper = (group.lane & bit) != 0;
#pragma unroll
    for (int i = 0; i < kept; ++i) {
      const float send = upper ? sums[i] : sums[i + kept];
      const float keep = upper ? sums[i + kept] : sums[i];
      sums[i] = keep + shuffle_xor(send, bit);
    }
  }
  for (; bit > 0; bit /= 2) sums[0] += shuffle_xor(sums[0], bit);
  return sums[0];
}

}  // namespace ml::ML_CUDA_NAMESPACE
