// The sum of a softmax. Included inside an instruction-set pass, like cpu/rows.h.

#if defined(ML_OPS_EXP_SUM_CPU_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_OPS_EXP_SUM_CPU_H
#undef ML_OPS_EXP_SUM_CPU_H
#else
#define ML_OPS_EXP_SUM_CPU_H
#endif

#include "cpu/rows.h"

namespace ml::cpu::ML_ISA {
namespace {

// The sum of exp(x[i] - max_x), i in [0, n); y, a float* (which may be x) or nullptr, gets the
// terms. Whole vectors are added lane by lane, the last n % kWidth terms one after another; the two
// sums are added.
template <class Y>
[[maybe_unused]] inline float exp_sum(const float* x, int64_t n, float max_x, Y y) {
  Vec vectors{};
  float rest = 0;
  for_vectors(n, [&](int64_t i, int c) {
    const Vec e = exp(load_n(x + i, c) - max_x);
    if constexpr (std::is_same_v<Y, float*>) store_n(y + i, e, c);
    if (c == kWidth)
      vectors += e;
    else
      for (int l = 0; l < c; ++l) rest += e[l];
  });
  return reduce_add(vectors) + rest;
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
