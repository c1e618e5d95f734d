#pragma once
// Numbers that every device agrees on.

#include <cstdint>

namespace ml {

// Slots of a table and entries of one sparse gradient are fewer: indices and positions are int32.
inline constexpr int64_t kIndexLimit = int64_t{1} << 31;

// A touched row with more entries is hot: its gradient is the sum of the sums of chunks of this
// many entries, added in order, so that many threads can share it.
inline constexpr int kHotEntries = 256;

}  // namespace ml
