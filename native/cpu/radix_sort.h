#pragma once
// A stable sort of (index, position) pairs by index: least significant digit first, so equal indices keep ascending positions.

#include <cstdint>

#include "cpu/context.h"

namespace ml::cpu {

// A pair as one number: index in the upper half, position in the lower.
using Pair = uint64_t;
inline uint32_t index_of(Pair p) { return static_cast<uint32_t>(p >> 32); }
inline uint32_t position_of(Pair p) { return static_cast<uint32_t>(p); }

// Sorts n pairs whose indices are below `limit`; `other` is room for n. Returns whichever of the two holds the result.
Pair* radix_sort(Context& ctx, Pair* pairs, Pair* other, int64_t n, int64_t limit);

}  // namespace ml::cpu
