#include "cpu/order.h"

#include <algorithm>
#include <functional>

namespace ml::cpu {

int64_t sort_top(const float* x, int64_t n, int64_t k, bool skip_masked, float* values,
                 int32_t* indices, uint64_t* keys) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (skip_masked && x[i] == -__builtin_inff()) continue;
    keys[count++] = order_key(ordered_bits(x[i]), static_cast<uint32_t>(i));
  }
  const int64_t found = std::min(k, count);
  if (found < count) std::nth_element(keys, keys + found, keys + count, std::greater<>());
  std::sort(keys, keys + found, std::greater<>());
  for (int64_t r = 0; r < found; ++r) {
    indices[r] = static_cast<int32_t>(index_of(keys[r]));
    values[r] = x[indices[r]];
  }
  return found;
}

}  // namespace ml::cpu
