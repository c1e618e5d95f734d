#include "optim/exact_rows.h"

#include "cpu/context.h"
#include "cpu/tuning.h"

namespace ml::cpu {

void exact_values(KernelContext& ctx, const ExactValues& a) {
  dispatch_exact(a.table.dtype, [&](auto t, auto e) {
    const auto* table = a.table.as<decltype(t)>();
    const auto* exact = a.exact.as<decltype(e)>();
    float* values = a.values.as<float>();
    ctx.parallel_for(a.values.size(), kElementwiseGrain, [=](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) values[i] = exact_value(table[i], exact[i]);
    });
  });
}

void set_exact_values(KernelContext& ctx, const SetExactValues& a) {
  dispatch_exact(a.table.dtype, [&](auto t, auto e) {
    auto* table = a.table.as<decltype(t)>();
    auto* exact = a.exact.as<decltype(e)>();
    const float* values = a.values.as<float>();
    ctx.parallel_for(a.values.size(), kElementwiseGrain, [=](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) set_exact(table[i], exact[i], values[i]);
    });
  });
}

}  // namespace ml::cpu
