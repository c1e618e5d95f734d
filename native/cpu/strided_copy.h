#pragma once
// Copies of boxes (core/strided.h): runs of memory where the innermost axis is one on both sides,
// tiles where another axis is the source's innermost.

#include "core/strided.h"
#include "cpu/context.h"

namespace ml::cpu {

// Elements of `width` bytes: 1, 2 or 4.
void strided_copy(KernelContext& ctx, void* to, const void* from, int width, const BoxLoops& box);

}  // namespace ml::cpu
