#include "cpu/index_check.h"

#include <atomic>

#include "core/index_error.h"
#include "cpu/tuning.h"

namespace ml::cpu {

bool indices_in_range(const int32_t* indices, int64_t n, int64_t slots) {
  // -1 … slots - 1 as an unsigned number below slots + 1
  const uint32_t limit = static_cast<uint32_t>(slots);
  uint32_t bad = 0;
  for (int64_t i = 0; i < n; ++i) bad |= static_cast<uint32_t>(indices[i]) + 1u > limit;
  return !bad;
}

void validate_indices(KernelContext& ctx, const char* op, const char* argument, const View& indices,
                      int64_t slots) {
  const int32_t* index = indices.as<int32_t>();
  std::atomic<bool> in_range{true};
  ctx.parallel_for(indices.size(), kIndexCheckGrain, [&](int64_t begin, int64_t end, int) {
    if (!indices_in_range(index + begin, end - begin, slots))
      in_range.store(false, std::memory_order_relaxed);
  });
  if (in_range.load(std::memory_order_relaxed)) return;
  for (int64_t i = 0; i < indices.size(); ++i) {
    if (!is_index(index[i], slots)) throw index_error(op, argument, i, index[i], slots, kRows);
  }
}

void validate_offsets(const char* op, const View& offsets, int64_t entries) {
  const int32_t* o = offsets.as<int32_t>();
  const int64_t bags = offsets.size() - 1;
  for (int64_t b = 0; b <= bags; ++b) {
    if (!is_offset(o, b, bags, entries))
      throw offset_error(op, "offsets", b, o[b], b > 0 ? o[b - 1] : 0, entries);
  }
}

}  // namespace ml::cpu
