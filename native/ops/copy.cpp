#include "ops/copy.h"

#include <cstring>

#include "cpu/context.h"
#include "cpu/tuning.h"

namespace ml::cpu {

void copy(KernelContext& ctx, const Copy& a) {
  if (a.in.dtype == a.out.dtype) {
    const int64_t width = bytes_of(a.in.dtype);
    ctx.parallel_for(a.in.size(), kCopyGrain, [&](int64_t begin, int64_t end, int) {
      std::memmove(a.out.as<char>() + begin * width, a.in.as<char>() + begin * width,
                   static_cast<size_t>((end - begin) * width));
    });
    return;
  }
  dispatch_float(a.in.dtype, [&](auto from) {
    dispatch_float(a.out.dtype, [&](auto to) {
      const auto* in = a.in.as<decltype(from)>();
      auto* out = a.out.as<decltype(to)>();
      ctx.parallel_for(a.in.size(), kElementwiseGrain, [=](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) out[i] = from_float<decltype(to)>(to_float(in[i]));
      });
    });
  });
}

}  // namespace ml::cpu
