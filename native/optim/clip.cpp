#include "optim/clip.h"

// SumSquares and ClipScale: the norm of all gradients, and their scaling by it.

#include <algorithm>
#include <cmath>

#include "cpu/context.h"

namespace ml::cpu {

void sum_squares(KernelContext& ctx, const SumSquares& a) {
  int64_t n = a.x.size();
  if (a.count) n = *a.count.as<int32_t>() * a.x.dim(1);
  const float* x = a.x.as<float>();
  const int64_t chunks = (n + kClipChunk - 1) / kClipChunk;
  double* partials = ctx.scratch<double>(chunks);
  ctx.parallel_for(n, kClipChunk, [&](int64_t begin, int64_t end, int) {
    double sum = 0;
    for (int64_t i = begin; i < end; ++i) sum += static_cast<double>(x[i]) * x[i];
    partials[begin / kClipChunk] = sum;
  });
  double total = 0;
  for (int64_t c = 0; c < chunks; ++c) total += partials[c];
  *a.sum.as<double>() += total;
}

void clip_scale(KernelContext& ctx, const ClipScale& a) {
  const double norm = std::sqrt(*a.sum.as<double>());
  if (a.norm) *a.norm.as<float>() = static_cast<float>(norm);
  if (!a.x) return;
  const double factor = clip_factor(norm, a.max_norm);
  if (factor == 1.0) return;
  float* x = a.x.as<float>();
  ctx.parallel_for(a.x.size(), kClipChunk, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) x[i] = static_cast<float>(x[i] * factor);
  });
}

}  // namespace ml::cpu
