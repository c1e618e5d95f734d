#pragma once
// exp(x - max) of a row and its sum, for softmax and what derives from it. A row that its group
// caches in registers is read once. A longer one is read once for the sum, which is rescaled
// whenever a chunk has a larger element (Milakov and Gimelshein 2018), and once more where the
// exponentials are needed. NaN and +Infinity make the sum NaN; of a row of -Infinity alone it is 0,
// and the exponentials are 0 or NaN.

#include "cuda/rows.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

template <class Group>
struct SoftmaxRow {
  const Group& group;
  const float* x;
  typename Group::Registers e;  // exp(x - max) of the last chunk
  float max = -INFINITY, sum = 0;

  __device__ SoftmaxRow(const Group& g, const float* row) : group(g), x(row) {
    group.for_chunks([&](int64_t begin) {
      group.load(e, x, begin, -INFINITY);
      float m = max;
      group.for_loaded(begin, [&](int i) { m = fmaxf(m, e[i]); });
      m = group.max(m);
      // nothing but -Infinity so far adds 0 to the sum, not NaN
      const float shift = m == -INFINITY ? 0.0f : m;
      sum *= expf(max - shift);
      group.for_loaded(begin, [&](int i) { sum += e[i] = expf(e[i] - shift); });
      max = m;
    });
    sum = group.sum(sum);
  }

  // Writes f(exp(x - max), element) to the row `to`.
  template <class F>
  __device__ void store(float* to, F f) {
    group.for_chunks([&](int64_t begin) {
      if constexpr (!Group::kCachesRow) {
        group.load(e, x, begin);
        group.for_loaded(begin, [&](int i) { e[i] = expf(e[i] - max); });
      }
      group.store(to, begin, [&](int i, int64_t c) { return f(e[i], c); });
    });
  }
};

}  // namespace
}  // namespace ml::ML_CUDA_NAMESPACE
