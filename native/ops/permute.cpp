#include "ops/permute.h"

#include "cpu/strided_copy.h"

namespace ml::cpu {

void permute(KernelContext& ctx, const Permute& a) {
  strided_copy(ctx, a.out.data, a.x.data, bytes_of(a.x.dtype), permuted_copy(a));
}

}  // namespace ml::cpu
