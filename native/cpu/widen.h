#pragma once
// 16-bit operands of operations that compute in float32: widened once, at the entry point.

#include "core/compute.h"
#include "cpu/context.h"

namespace ml::cpu {

// The view itself, or a float32 copy of a float16 or bfloat16 one in the call's scratch memory.
// Exact.
View widened(KernelContext& ctx, const View& v);

// As `compute` has it: widened, or a float32 copy of v rounded to bfloat16.
View product_operand(KernelContext& ctx, const View& v, Compute compute);

}  // namespace ml::cpu
