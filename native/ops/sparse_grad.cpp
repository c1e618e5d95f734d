// SparseGradValues and SparseGradToDense: the gradients of the touched rows.

#include "ops/sparse_grad.h"

#ifdef ML_ISA
#include "ops/row_gradient_cpu.h"
#else
#include "cpu/tuning.h"
#include "ops/hot_rows_cpu.h"

#define ML_ISA_SOURCE "ops/sparse_grad.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {

void sparse_grad_values(KernelContext& ctx, const SparseGradValues& a) {
  const int64_t R = *a.count.as<int32_t>(), V = a.values.dim(1);
  if (R == 0 || V == 0) return;  // there may be many bags without entries
  const HotRows rows(
      ctx, gather_entries(ctx, a.reads, a.order.as<int32_t>(), a.starts.as<int32_t>(), R, V), R,
      ML_DISPATCH(sum_entries));
  ctx.parallel_for(R, kSparseGradRowGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) rows.gradient(r, a.values.as<float>() + r * V);
  });
}

void sparse_grad_to_dense(KernelContext& ctx, const SparseGradToDense& a) {
  const int64_t R = *a.count.as<int32_t>(), V = a.values.dim(1);
  ctx.parallel_for(R, kSparseGradRowGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      float* row = a.dense.as<float>() + static_cast<int64_t>(a.rows.as<int32_t>()[r]) * V;
      const float* values = a.values.as<float>() + r * V;
      for (int64_t c = 0; c < V; ++c) row[c] += values[c];
    }
  });
}

}  // namespace ml::cpu
#endif
