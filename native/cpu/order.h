#pragma once
// The total order of top-k: value descending, then index ascending; NaN is above +Inf, -0 equals
// +0. The sorting path, for rows that the vector path (cpu/select.h) does not take: NaN,
// infinities, many ties, large k.

#include <cstdint>

#include "core/order.h"

namespace ml::cpu {

// The k first of n values in the total order, into values and indices. Returns how many: fewer than
// k only if n < k, or if `skip_masked` leaves -Inf out. keys: workspace for n.
int64_t sort_top(const float* x, int64_t n, int64_t k, bool skip_masked, float* values,
                 int32_t* indices, uint64_t* keys);

}  // namespace ml::cpu
