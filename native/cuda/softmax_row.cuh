#pragma once
// exp(x - greatest) of a row and its sum, for softmax and what derives from it. A row that its team
// holds is read once. A longer one: once for the sum, rescaled whenever a part has a greater
// element (Milakov and Gimelshein 2018), and once more for who needs the exponentials. NaN and
// +Infinity make the sum NaN; of a row of -Infinity alone it is 0, and the exponentials are 0 or
// NaN.

#include "cuda/rows.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

template <class Team>
struct SoftmaxRow {
  const Team& team;
  const float* x;
  typename Team::Slots e;  // exp(x - greatest) of the last part
  float greatest = -INFINITY, sum = 0;

  __device__ SoftmaxRow(const Team& t, const float* row) : team(t), x(row) {
    team.parts([&](int64_t begin) {
      team.load(e, x, begin, -INFINITY);
      float m = greatest;
      team.held(begin, [&](int i) { m = fmaxf(m, e[i]); });
      m = team.greatest(m);
      // nothing but -Infinity so far adds 0 to the sum, not NaN
      const float shift = m == -INFINITY ? 0.0f : m;
      sum *= expf(greatest - shift);
      team.held(begin, [&](int i) { sum += e[i] = expf(e[i] - shift); });
      greatest = m;
    });
    sum = team.sum(sum);
  }

  // Writes f(exp(x - greatest), element) to the row `to`.
  template <class F>
  __device__ void store(float* to, F f) {
    team.parts([&](int64_t begin) {
      if constexpr (!Team::kHoldsRow) {
        team.load(e, x, begin);
        team.held(begin, [&](int i) { e[i] = expf(e[i] - greatest); });
      }
      team.store(to, begin, [&](int i, int64_t c) { return f(e[i], c); });
    });
  }
};

}  // namespace
}  // namespace ml::ML_CUDA_NAMESPACE
