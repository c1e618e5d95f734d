#pragma once
// Sums of columns over the rows of a matrix (dbias, dgain), in float32 over a few rows and in
// float64 from there on: a single float32 sum is off by 1 % after a million rows. The cut into
// chunks depends on the shape alone, so the bits do not depend on threads.

#include <algorithm>
#include <cstdint>

#include "cpu/context.h"
#include "cpu/tuning.h"

namespace ml::cpu {

// Rows that are added in float32.
constexpr int64_t kColumnSumRows = 128;

// `vectors` sums of n columns each; one chunk of rows for each task of a parallel_for over rows
// with grain `grain`.
class ColumnPartials {
 public:
  const int64_t grain;

  ColumnPartials(KernelContext& ctx, int64_t rows, int64_t n, int64_t vectors)
      : grain(std::max(
            {int64_t{1}, kRowGrain / n, (rows + kMaxGainPartials - 1) / kMaxGainPartials})),
        n_(n),
        width_(n * vectors),
        chunks_((rows + grain - 1) / grain),
        totals_(ctx.scratch<double>(chunks_ * width_)),
        sums_(ctx.scratch<float>(chunks_ * width_)) {}

  // add(sums, from, to) adds rows from … to to sums [vectors, n], for each piece of the chunk.
  template <class F>
  void for_rows(int64_t begin, int64_t end, F add) const {
    double* total = totals_ + begin / grain * width_;
    float* sums = sums_ + begin / grain * width_;
    std::fill_n(total, width_, 0.0);
    for (int64_t r = begin; r < end; r += kColumnSumRows) {
      std::fill_n(sums, width_, 0.0f);
      add(sums, r, std::min(end, r + kColumnSumRows));
      for (int64_t i = 0; i < width_; ++i) total[i] += sums[i];
    }
  }

  // to [n], `stride` apart, += sum `vector` of all chunks, in order
  void add_to(float* to, int64_t vector, int64_t stride = 1) const {
    if (chunks_ == 0) return;
    double* first = totals_ + vector * n_;
    for (int64_t c = 1; c < chunks_; ++c)
      for (int64_t i = 0; i < n_; ++i) first[i] += first[c * width_ + i];
    for (int64_t i = 0; i < n_; ++i) {
      float& sum = to[i * stride];
      sum = static_cast<float>(sum + first[i]);
    }
  }

 private:
  const int64_t n_, width_, chunks_;
  double* const totals_;  // [chunks, vectors, n]
  float* const sums_;     // likewise
};

}  // namespace ml::cpu
