// Rotary position embedding (ops/rope.h). Compiled without fused multiply-add, so that the bits are
// those of every device.

#include "ops/rope.h"

#include <vector>

#include "cuda/checks.h"
#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"
#include "cuda/vec.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

struct RopeShape {
  int64_t tokens, heads, half, position_rows, offset;
  bool inverse;
};

// One thread rotates n neighbouring pairs of up to kRopeHeads heads of one token: the angles are
// computed once for them. steps [half]
template <int n>
__global__ void __launch_bounds__(kThreads)
    rope_kernel(Guard guard, float* out, const float* x, const int32_t* positions,
                const uint64_t* steps, RopeShape a) {
  if (guard.aborted()) return;
  const int64_t packs = a.half / n, groups = (a.heads + kRopeHeads - 1) / kRopeHeads;
  const int64_t item = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (item >= a.tokens * groups * packs) return;
  const int64_t i = item % packs * n, group = item / packs % groups,
                token = item / (packs * groups);
  const int64_t row = token % a.position_rows;
  const int64_t position = positions ? positions[row] : a.offset + row;
  const Pack<uint64_t, n> step = load<n>(steps + i);
  float sine[n], cosine[n];
#pragma unroll
  for (int j = 0; j < n; ++j) rope_angle(position, step.v[j], a.inverse, sine[j], cosine[j]);
  const int64_t last = (group + 1) * kRopeHeads < a.heads ? (group + 1) * kRopeHeads : a.heads;
  for (int64_t head = group * kRopeHeads; head < last; ++head) {
    const int64_t at = (token * a.heads + head) * 2 * a.half + i;
    const Pack<float, n> first = load<n>(x + at), second = load<n>(x + at + a.half);
    Pack<float, n> low, high;
#pragma unroll
    for (int j = 0; j < n; ++j) {
      low.v[j] = first.v[j] * cosine[j] - second.v[j] * sine[j];
      high.v[j] = second.v[j] * cosine[j] + first.v[j] * sine[j];
    }
    store<n>(out + at, low);
    store<n>(out + at + a.half, high);
  }
}

}  // namespace

void rope(CudaStream& stream, const Rope& a) {
  if (a.x.size() == 0) return;
  const RopeShape shape{.tokens = a.x.dim(0) * a.x.dim(1),
                        .heads = a.x.dim(2),
                        .half = a.x.dim(3) / 2,
                        .position_rows = position_rows(a),
                        .offset = a.offset,
                        .inverse = a.inverse};
  std::vector<uint64_t> host(static_cast<size_t>(shape.half));
  rope_steps(a, host.data());
  uint64_t* steps = stream.scratch<uint64_t>(shape.half);
  enqueue_upload(stream, steps, host.data(), shape.half * int64_t{sizeof(uint64_t)});
  const int64_t groups = (shape.heads + kRopeHeads - 1) / kRopeHeads;
  const auto start = [&](auto kernel, int n) {
    launch(kernel, dim3(blocks_for(shape.tokens * groups * (shape.half / n), kThreads)),
           dim3(kThreads), 0, stream, a.out.as<float>(), a.x.as<float>(),
           a.positions ? a.positions.as<int32_t>() : nullptr, steps, shape);
  };
  const bool pairs =
      widest(a.x.as<float>(), shape.half) >= 2 && widest(a.out.as<float>(), shape.half) >= 2;
  pairs ? start(rope_kernel<2>, 2) : start(rope_kernel<1>, 1);
}

}  // namespace ml::ML_CUDA_NAMESPACE
