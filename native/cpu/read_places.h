#pragma once
// The entries of the touched rows, laid out in the order in which they are summed.

#include <cstdint>

namespace ml::cpu {

struct Entry {
  float weight;
  uint32_t bag;  // of all reads' bags
};

struct RowEntries {
  const Entry* entries;
  const int32_t* starts;   // those of touched row r are starts[r] … starts[r + 1]
  const float* const* dy;  // of each bag: its row
  int64_t bags;
  int64_t width;

  bool one_entry(int64_t r) const { return starts[r + 1] - starts[r] == 1; }
  const Entry& first_entry(int64_t r) const { return entries[starts[r]]; }
  const Entry& last_entry(int64_t r) const { return entries[starts[r + 1] - 1]; }
  const float* dy_of(const Entry& entry) const { return dy[entry.bag]; }
  int64_t dy_bytes() const { return bags * width * static_cast<int64_t>(sizeof(float)); }
};

}  // namespace ml::cpu
