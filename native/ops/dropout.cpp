#include "ops/dropout.h"

#include <algorithm>

#include "cpu/context.h"
#include "cpu/tuning.h"

namespace ml::cpu {

void dropout(KernelContext& ctx, const Dropout& a) {
  const float* x = a.x.as<float>();
  float* out = a.out.as<float>();
  const int64_t size = a.x.size();
  const uint32_t threshold = dropout_threshold(a.p);
  const float scale = dropout_scale(a.p);
  ctx.parallel_for((size + 3) / 4, kRandomFillGrain, [=, &a](int64_t begin, int64_t end, int) {
    for (int64_t g = begin; g < end; ++g) {
      const Random4 random = philox(static_cast<uint64_t>(g), a.seed, RandomUse::dropout, a.step);
      for (int64_t i = 4 * g; i < std::min(size, 4 * g + 4); ++i)
        out[i] = random.word[i - 4 * g] < threshold ? 0.0f : x[i] * scale;
    }
  });
}

}  // namespace ml::cpu
