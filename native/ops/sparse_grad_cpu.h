#pragma once
// What the CPU schedules of the sparse gradient and the sparse update share.

#include <vector>

#include "cpu/read_places.h"
#include "ops/sparse_grad.h"

namespace ml::cpu {

class Context;

// The entries of `order`, those of R touched rows, in scratch memory of this call.
RowEntries gather_entries(Context& ctx, const std::vector<TableRead>& reads, const int32_t* order,
                          const int32_t* starts, int64_t R, int64_t width);

}  // namespace ml::cpu
