#pragma once
// Sort and scan on the device: CUB under nvcc, host functions of the stream under the emulator. CUB
// is included in sort.cu only. The host knows n; where only the device knows how many elements are
// valid, the rest get keys that sort last. Both work on scratch memory of the operation, so after a
// fault they sort undefined values, to no effect.

#include <cstdint>

#include "cuda/stream.h"

namespace ml::ML_CUDA_NAMESPACE {

// Sorts pairs[0 … n) by their bits [begin_bit, end_bit), ascending and stable. `other` [n] is
// workspace. Returns where the sorted pairs are, `pairs` or `other`; the other one is overwritten.
uint64_t* sort_pairs(CudaStream& stream, uint64_t* pairs, uint64_t* other, int64_t n, int begin_bit,
                     int end_bit);

// out[i] = in[0] + … + in[i - 1]; out may be the same memory as in.
void exclusive_sum(CudaStream& stream, int32_t* out, const int32_t* in, int64_t n);

}  // namespace ml::ML_CUDA_NAMESPACE
