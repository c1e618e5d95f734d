#include "ops/rope.h"

#ifdef ML_ISA
#include "cpu/rows.h"

namespace ml::cpu::ML_ISA {
namespace {

// All heads of tokens begin … end. angles [R, 2, d/2]: cosines and sines of row token % R
void rope_tokens(const Rope& a, const float* angles, int64_t begin, int64_t end) {
  const int64_t H = a.x.dim(2), d = a.x.dim(3), half = d / 2, rows = position_rows(a);
  for (int64_t token = begin; token < end; ++token) {
    const float *cosine = angles + token % rows * d, *sine = cosine + half;
    for (int64_t at = token * H * d; at < (token + 1) * H * d; at += d) {
      const float* x = a.x.as<float>() + at;
      float* out = a.out.as<float>() + at;
      for_vectors(half, [&](int64_t i, int n) {
        const Vec first = load_n(x + i, n), second = load_n(x + half + i, n),
                  c = load_n(cosine + i, n), s = load_n(sine + i, n);
        store_n(out + i, first * c - second * s, n);
        store_n(out + half + i, second * c + first * s, n);
      });
    }
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include <algorithm>

#include "cpu/tuning.h"

#define ML_ISA_SOURCE "ops/rope.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {

void rope(KernelContext& ctx, const Rope& a) {
  if (a.x.size() == 0) return;
  const int64_t d = a.x.dim(3), half = d / 2, rows = position_rows(a);
  uint64_t* steps = ctx.scratch<uint64_t>(half);
  rope_steps(a, steps);
  float* angles = ctx.scratch<float>(rows * d);
  const int32_t* positions = a.positions ? a.positions.as<int32_t>() : nullptr;
  ctx.parallel_for(rows, std::max<int64_t>(1, kAngleGrain / half),
                   [&](int64_t begin, int64_t end, int) {
                     for (int64_t r = begin; r < end; ++r)
                       for (int64_t i = 0; i < half; ++i)
                         rope_angle(positions ? positions[r] : a.offset + r, steps[i], a.inverse,
                                    angles[r * d + half + i], angles[r * d + i]);
                   });
  const auto tokens = ML_DISPATCH(rope_tokens);
  ctx.parallel_for(a.x.dim(0) * a.x.dim(1), std::max<int64_t>(1, kRowGrain / (a.x.dim(2) * d)),
                   [&](int64_t begin, int64_t end, int) { tokens(a, angles, begin, end); });
}

}  // namespace ml::cpu
#endif
