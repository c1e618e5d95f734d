#pragma once
// Copies of boxes (core/strided.h): runs of memory where the innermost axis is one on both sides,
// tiles where another axis is the source's innermost.

#include "core/strided.h"
#include "cpu/context.h"

namespace ml::cpu {

// `copy` is simplified; elements of `width` bytes: 1, 2 or 4.
void strided_copy(KernelContext& ctx, void* to, const void* from, int width,
                  const StridedCopy& copy);

}  // namespace ml::cpu
