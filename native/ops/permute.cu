// Axes in another order (ops/permute.h).

#include "ops/permute.h"

#include "cuda/strided_copy.h"

namespace ml::ML_CUDA_NAMESPACE {

void permute(CudaStream& stream, const Permute& a) {
  strided_copy(stream, a.out.data, a.x.data, bytes_of(a.x.dtype), permuted_copy(a));
}

}  // namespace ml::ML_CUDA_NAMESPACE
