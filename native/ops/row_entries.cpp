#include "ops/row_entries_cpu.h"

#ifdef ML_ISA

namespace ml::cpu::ML_ISA {
namespace {

// The entries of bags begin … end by position, entries[0] being the first of bag 0. offsets: where
// each bag begins, or nullptr: each has bag_size.
[[maybe_unused]] void list_entries(const float* weights, const int32_t* offsets, int64_t bag_size,
                                   int64_t begin, int64_t end, uint32_t first_bag, Entry* entries) {
  for (int64_t b = begin; b < end; ++b) {
    const uint32_t bag = first_bag + static_cast<uint32_t>(b);
    const Vec bags = as_float(IVec{} + static_cast<int32_t>(bag));
    const int64_t last = offsets ? offsets[b + 1] : (b + 1) * bag_size;
    int64_t l = offsets ? offsets[b] : b * bag_size;
    for (; l + kWidth <= last; l += kWidth)
      interleave(reinterpret_cast<float*>(entries + l), load(weights + l), bags);
    for (; l < last; ++l) entries[l] = {weights[l], bag};
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include <algorithm>

#include "cpu/tuning.h"

#define ML_ISA_SOURCE "ops/row_entries.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {

RowEntries gather_entries(KernelContext& ctx, const std::vector<TableRead>& reads,
                          const int32_t* order, const int32_t* starts, int64_t R, int64_t width) {
  int64_t total_bags = 0;
  for (const TableRead& r : reads) total_bags += r.dy.dim(0);
  const float** dy = ctx.scratch<const float*>(total_bags);
  Entry* by_position = ctx.scratch<Entry>(entry_count(reads));
  const auto list = ML_DISPATCH(list_entries);
  int64_t first_bag = 0, first = 0;
  for (const TableRead& r : reads) {
    const int64_t bags = r.dy.dim(0), entries = r.indices.size();
    const int64_t bag_size = r.offsets ? 0 : r.indices.dim(1);
    const int32_t* offsets = r.offsets ? r.offsets.as<int32_t>() : nullptr;
    const int64_t grain =
        std::max<int64_t>(1, kSparseGradGrain * bags / std::max<int64_t>(entries, 1));
    ctx.parallel_for(bags, grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t b = begin; b < end; ++b) dy[first_bag + b] = r.dy.as<float>() + b * width;
      list(r.weights.as<float>(), offsets, bag_size, begin, end, static_cast<uint32_t>(first_bag),
           by_position + first);
    });
    first_bag += bags;
    first += entries;
  }
  const int64_t n = starts[R];
  Entry* by_row = ctx.scratch<Entry>(n);
  ctx.parallel_for(n, kSparseGradGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) by_row[i] = by_position[order[i]];
  });
  return {.entries = by_row, .starts = starts, .dy = dy, .bags = total_bags, .width = width};
}

}  // namespace ml::cpu
#endif
