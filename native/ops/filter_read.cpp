#include "ops/filter_read.h"

#include "cpu/context.h"
#include "cpu/tuning.h"

namespace ml::cpu {

void filter_read(KernelContext& ctx, const FilterRead& a) {
  const auto *indices = a.indices.as<int32_t>(), *chosen = a.chosen.as<int32_t>();
  auto* filtered = a.filtered.as<int32_t>();
  const int64_t count = *a.count.as<int32_t>();
  ctx.parallel_for(a.indices.size(), kSparseGradGrain, [=](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i)
      filtered[i] = is_among(chosen, count, indices[i]) ? indices[i] : -1;
  });
}

}  // namespace ml::cpu
