#pragma once
// What the CPU schedules of the sparse gradient and the sparse update share.

#include <vector>

#include "cpu/read_places.h"
#include "ops/sparse_grad.h"

namespace ml::cpu {

class Context;

// The n places of `order`, in scratch memory of this call.
ReadPlaces lay_out(Context& ctx, const std::vector<TableRead>& reads, const int32_t* order, int64_t n, int64_t width);

}  // namespace ml::cpu
