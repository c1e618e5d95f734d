#pragma once
// Numbers that every device agrees on.

#include <cstddef>
#include <cstdint>

namespace ml {

// Slots of a table and entries of one sparse gradient are fewer: indices and positions are int32.
inline constexpr int64_t kIndexLimit = int64_t{1} << 31;

// Bytes of `count` elements of scratch memory. A count that overflowed, or more than any device
// has, is a size that no allocation gives.
constexpr int64_t scratch_size(int64_t count, size_t element) {
  constexpr int64_t kMax = int64_t{1} << 60;
  const auto size = static_cast<int64_t>(element);
  return count < 0 || count > kMax / size ? kMax : count * size;
}

// A touched row with more entries is hot: its gradient is the sum of the sums of chunks of this
// many entries, added in order, so that many threads can share it.
inline constexpr int kHotEntries = 256;

}  // namespace ml
