#include "ops/slice.h"

#include <cstring>

#include "core/strided.h"
#include "cpu/strided_copy.h"
#include "cpu/tuning.h"

namespace ml::cpu {

void slice(KernelContext& ctx, const Slice& a) {
  const int width = bytes_of(a.x.dtype);
  strided_copy(ctx, a.out.data, a.x.as<char>() + box_offset(a.x.shape, a.begin) * width, width,
               box_copy(a.size, a.size, a.x.shape));
}

void slice_backward(KernelContext& ctx, const SliceBackward& a) {
  const int width = bytes_of(a.dy.dtype);
  char* dx = a.dx.as<char>();
  ctx.parallel_for(a.dx.bytes(), kFillGrain, [=](int64_t begin, int64_t end, int) {
    std::memset(dx + begin, 0, static_cast<size_t>(end - begin));
  });
  strided_copy(ctx, dx + box_offset(a.shape, a.begin) * width, a.dy.data, width,
               box_copy(a.dy.shape, a.shape, a.dy.shape));
}

}  // namespace ml::cpu
