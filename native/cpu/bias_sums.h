#pragma once
// Gradients of biases, sums of columns: dbias[j] += sum over r of dy[r, j], j in [0, columns).

#include <cstdint>

#include "core/view.h"
#include "cpu/context.h"

namespace ml::cpu {

void add_bias_sums(KernelContext& ctx, float* dbias, const float* dy, int64_t rows,
                   int64_t columns);

// dbias[g, j] is the sum over the rows offsets[g] … offsets[g + 1] (int32, validated).
void add_bias_sums(KernelContext& ctx, float* dbias, const float* dy, const View& offsets,
                   int64_t columns);

}  // namespace ml::cpu
