#pragma once
// 16-bit operands of operations that compute in float32: widened once, at the entry point.

#include "core/view.h"
#include "cpu/context.h"

namespace ml::cpu {

// The view itself, or a float32 copy of a float16 or bfloat16 one in the call's scratch memory.
// Exact.
View widened(KernelContext& ctx, const View& v);

}  // namespace ml::cpu
