#include "ops/topk.h"

#ifdef ML_ISA
#include "cpu/pack.h"
#include "cpu/select.h"

namespace ml::cpu::ML_ISA {
namespace {

void topk_rows(const TopK& a, uint64_t* keys, int64_t begin, int64_t end) {
  const int64_t n = a.x.dim(-1), k = a.values.dim(-1);
  bool nan;
  for (int64_t r = begin; r < end; ++r)
    select_top(a.x.as<float>() + r * n, n, k, false, a.values.as<float>() + r * k,
               a.indices.as<int32_t>() + r * k, keys, nan);
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include <algorithm>

#include "cpu/tuning.h"

#define ML_ISA_SOURCE "ops/topk.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {

void topk(KernelContext& ctx, const TopK& a) {
  const auto rows = ML_DISPATCH(topk_rows);
  const int64_t n = a.x.dim(-1);
  uint64_t* keys = ctx.scratch<uint64_t>(n * ctx.threads());
  ctx.parallel_for(
      a.x.size() / n, std::max<int64_t>(1, kRowGrain / n),
      [&](int64_t begin, int64_t end, int worker) { rows(a, keys + worker * n, begin, end); });
}

}  // namespace ml::cpu
#endif
