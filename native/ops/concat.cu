// Concatenation (ops/concat.h): each part is a box of the output.

#include "ops/concat.h"

#include "cuda/strided_copy.h"

namespace ml::ML_CUDA_NAMESPACE {

void concat(CudaStream& stream, const Concat& a) {
  const int width = bytes_of(a.out.dtype);
  char* to = a.out.as<char>();
  for (const View& part : a.parts) {
    strided_copy(stream, to, part.data, width, box_copy(part.shape, a.out.shape, part.shape));
    to += part_bytes(a, part);
  }
}

}  // namespace ml::ML_CUDA_NAMESPACE
