#pragma once
// The entries of the touched rows, gathered in the order in which they are summed.
//   entries [nnz]    by touched row, then by position
//   starts  [R + 1]  those of touched row r are starts[r] … starts[r + 1]
//   dy      [bags]   the bags of all reads in one sequence: dy[b] is the row [width] of bag b

#include <cstdint>
#include <vector>

#include "ops/sparse_grad.h"

namespace ml::cpu {

class KernelContext;

struct Entry {
  float weight;
  uint32_t bag;
};

struct RowEntries {
  const Entry* entries;
  const int32_t* starts;
  const float* const* dy;
  int64_t bags;
  int64_t width;

  bool one_entry(int64_t r) const { return starts[r + 1] - starts[r] == 1; }
  const Entry& first_entry(int64_t r) const { return entries[starts[r]]; }
  const Entry& last_entry(int64_t r) const { return entries[starts[r + 1] - 1]; }
  const float* dy_of(const Entry& entry) const { return dy[entry.bag]; }
  int64_t dy_bytes() const { return bags * width * static_cast<int64_t>(sizeof(float)); }
};

// Gathers the entries of R touched rows (order, starts: SortRows) into scratch memory of this call.
RowEntries gather_entries(KernelContext& ctx, const std::vector<TableRead>& reads,
                          const int32_t* order, const int32_t* starts, int64_t R, int64_t width);

}  // namespace ml::cpu
