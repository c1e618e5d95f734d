#include "ops/concat.h"

#include "cpu/strided_copy.h"

namespace ml::cpu {

void concat(KernelContext& ctx, const Concat& a) {
  const int width = bytes_of(a.out.dtype);
  char* to = a.out.as<char>();
  for (const View& part : a.parts) {
    strided_copy(ctx, to, part.data, width, box_copy(part.shape, a.out.shape, part.shape));
    to += part_bytes(a, part);
  }
}

}  // namespace ml::cpu
