// SumSquares, SparseSquares and ClipScale: the norm of gradients, and their scaling by it.

#include "optim/clip.h"

#ifdef ML_ISA
#include "ops/row_gradient_cpu.h"

namespace ml::cpu::ML_ISA {
namespace {

// The sum of x^2 in float64, in eight chains side by side, where one would be waited for.
double squares(const float* x, int64_t n) {
  constexpr int kChains = 8;
  double sums[kChains] = {};
  int64_t i = 0;
  for (; i + kChains <= n; i += kChains)
    for (int k = 0; k < kChains; ++k) sums[k] += static_cast<double>(x[i + k]) * x[i + k];
  for (int k = 0; i + k < n; ++k) sums[k] += static_cast<double>(x[i + k]) * x[i + k];
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include <algorithm>
#include <cmath>

#include "cpu/tuning.h"
#include "ops/hot_rows_cpu.h"

#define ML_ISA_SOURCE "optim/clip.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {
namespace {

void add_in_order(const View& sum, const double* partials, int64_t count) {
  double total = 0;
  for (int64_t c = 0; c < count; ++c) total += partials[c];
  *sum.as<double>() += total;
}

}  // namespace

void sum_squares(KernelContext& ctx, const SumSquares& a) {
  *a.sum.as<double>() = 0;
  const auto squares = ML_DISPATCH(squares);
  const auto chunks_of = [](const View& v) { return (v.size() + kClipChunk - 1) / kClipChunk; };
  int64_t chunks = 0;
  for (const View& v : a.xs) chunks += chunks_of(v);
  double* const partials = ctx.scratch<double>(chunks);
  double* own = partials;
  for (const View& v : a.xs) {
    const float* x = v.as<float>();
    ctx.parallel_for(v.size(), kClipChunk, [&](int64_t begin, int64_t end, int) {
      own[begin / kClipChunk] = squares(x + begin, end - begin);
    });
    own += chunks_of(v);
  }
  add_in_order(a.sum, partials, chunks);
}

void sparse_squares(KernelContext& ctx, const SparseSquares& a) {
  const int64_t R = *a.count.as<int32_t>(), V = a.width;
  if (R == 0 || V == 0) return;
  const HotRows rows(
      ctx, gather_entries(ctx, a.reads, a.order.as<int32_t>(), a.starts.as<int32_t>(), R, V), R,
      ML_DISPATCH(sum_entries));
  double* partials = ctx.scratch<double>(R);
  const int64_t stride = rows.buffer_stride();
  float* buffers = ctx.scratch<float>(ctx.threads() * stride);
  const auto squares = ML_DISPATCH(squares);
  ctx.parallel_for(R, kSparseGradRowGrain, [&](int64_t begin, int64_t end, int worker) {
    float* g = buffers + worker * stride;
    for (int64_t r = begin; r < end; ++r) {
      rows.gradient(r, g);
      partials[r] = squares(g, V);
    }
  });
  add_in_order(a.sum, partials, R);
}

void clip_scale(KernelContext& ctx, const ClipScale& a) {
  const double norm = std::sqrt(total_of(a.sum.as<double>(), a.sum.size() / 2));
  *a.norm.as<float>() = static_cast<float>(norm);
  const double factor = clip_factor(norm, a.max_norm);
  if (factor == 1.0) return;
  for (const View& v : a.xs) {
    float* x = v.as<float>();
    ctx.parallel_for(v.size(), kClipChunk, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) x[i] = static_cast<float>(x[i] * factor);
    });
  }
}

}  // namespace ml::cpu
#endif
