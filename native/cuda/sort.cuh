#pragma once
// Sorting and scanning on the device: CUB under nvcc, host functions of the stream under the
// emulator. Nothing of CUB is seen here, so only sort.cu pays for it. n is known to the host; how
// much of it counts may be known to the device alone (give the rest keys that sort last). Both work
// on memory of the operation: after a fault they sort what lies there, which harms nobody.

#include <cstdint>

#include "cuda/stream.h"

namespace ml::ML_CUDA_NAMESPACE {

// Sorts pairs[0 … n) by their bits [begin_bit, end_bit), ascending, equal ones in their old order.
// `other` has room for n. Returns where the sorted pairs are: `pairs` or `other`; the other one is
// overwritten.
uint64_t* sort_pairs(CudaStream& stream, uint64_t* pairs, uint64_t* other, int64_t n, int begin_bit,
                     int end_bit);

// out[i] = in[0] + … + in[i - 1]; out may be in.
void exclusive_sum(CudaStream& stream, int32_t* out, const int32_t* in, int64_t n);

}  // namespace ml::ML_CUDA_NAMESPACE
