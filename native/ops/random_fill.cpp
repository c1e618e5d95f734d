#include "ops/random_fill.h"

#include <algorithm>

#include "cpu/context.h"
#include "cpu/tuning.h"

namespace ml::cpu {

namespace {

void fill_columns(KernelContext& ctx, const RandomFill& a) {
  const int64_t columns = a.out.dim(1);
  dispatch_float(a.out.dtype, [&](auto type) {
    using T = decltype(type);
    T* out = a.out.as<T>();
    ctx.parallel_for(a.out.size(), kRandomFillGrain, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i)
        out[i] = from_float<T>(random_of_columns(a, columns, i));
    });
  });
}

}  // namespace

void random_fill(KernelContext& ctx, const RandomFill& a) {
  if (a.width > 0) return fill_columns(ctx, a);
  const int64_t size = a.out.size();
  dispatch_float(a.out.dtype, [&](auto type) {
    using T = decltype(type);
    T* out = a.out.as<T>();
    ctx.parallel_for((size + 3) / 4, kRandomFillGrain, [&](int64_t begin, int64_t end, int) {
      for (int64_t g = begin; g < end; ++g) {
        float values[4];
        random4(a, static_cast<uint64_t>(g), values);
        for (int64_t i = 4 * g; i < std::min(size, 4 * g + 4); ++i)
          out[i] = from_float<T>(values[i - 4 * g]);
      }
    });
  });
}

}  // namespace ml::cpu
