#include "ops/embedding_bag.h"

#ifdef ML_ISA
#include "cpu/gather_dot.h"
#include "cpu/gather_sum.h"

namespace ml::cpu::ML_ISA {
namespace {

// y of bags b0 … b1, columns c0 … c1
template <class T>
void sum_bags(const EmbeddingBag& a, int64_t b0, int64_t b1, int64_t c0, int64_t c1) {
  const int64_t V = a.table.dim(1);
  const int32_t* offsets = a.offsets ? a.offsets.as<int32_t>() : nullptr;
  const int64_t L = offsets ? 0 : a.indices.dim(1);
  const Table<T> table{.rows = a.table.as<T>(), .width = V};
  BagEntries bag{.indices = a.indices.as<int32_t>(),
                 .weights = a.weights.as<float>(),
                 .scales = a.scales ? a.scales.as<float>() : nullptr,
                 .begin = 0,
                 .end = 0};
  const int64_t last = offsets ? offsets[b1] : b1 * L;
  const int64_t first = offsets ? offsets[b0] : b0 * L;
  const int64_t columns = c1 - c0 < BlockSums<T>::kColumns ? c1 - c0 : BlockSums<T>::kColumns;
  prefetch_first_rows(next_rows(table, bag.indices + first, last - first, c0),
                      columns * static_cast<int64_t>(sizeof(T)), bag.scales);
  for (int64_t b = b0; b < b1; ++b) {
    bag.begin = offsets ? offsets[b] : b * L;
    bag.end = offsets ? offsets[b + 1] : (b + 1) * L;
    bag_sum(table, bag, c0, c1, a.y.as<float>() + b * V, false,
            next_rows(table, bag.indices + bag.end, last - bag.end, c0));
  }
}

// dweights of bags b0 … b1
template <class T>
void dot_bags(const EmbeddingBagWeightsBackward& a, int64_t b0, int64_t b1) {
  const int64_t V = a.table.dim(1);
  const int32_t* offsets = a.offsets ? a.offsets.as<int32_t>() : nullptr;
  const int64_t L = offsets ? 0 : a.indices.dim(1);
  const Table<T> table{.rows = a.table.as<T>(), .width = V};
  BagEntries bag{.indices = a.indices.as<int32_t>(),
                 .weights = nullptr,
                 .scales = a.scales ? a.scales.as<float>() : nullptr,
                 .begin = 0,
                 .end = 0};
  const int64_t last = offsets ? offsets[b1] : b1 * L;
  const int64_t first = offsets ? offsets[b0] : b0 * L;
  prefetch_first_rows(next_rows(table, bag.indices + first, last - first, 0),
                      V * static_cast<int64_t>(sizeof(T)), bag.scales);
  for (int64_t b = b0; b < b1; ++b) {
    bag.begin = offsets ? offsets[b] : b * L;
    bag.end = offsets ? offsets[b + 1] : (b + 1) * L;
    bag_dots(table, bag, a.dy.as<float>() + b * V, a.dweights.as<float>(),
             next_rows(table, bag.indices + bag.end, last - bag.end, 0));
  }
}

void embedding_bag_block(const EmbeddingBag& a, int64_t b0, int64_t b1, int64_t c0, int64_t c1) {
  if (a.table.dtype == DType::i8) return sum_bags<int8_t>(a, b0, b1, c0, c1);
  dispatch_float(a.table.dtype, [&](auto t) { sum_bags<decltype(t)>(a, b0, b1, c0, c1); });
}

void weights_backward_bags(const EmbeddingBagWeightsBackward& a, int64_t b0, int64_t b1) {
  if (a.table.dtype == DType::i8) return dot_bags<int8_t>(a, b0, b1);
  dispatch_float(a.table.dtype, [&](auto t) { dot_bags<decltype(t)>(a, b0, b1); });
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include <algorithm>

#include "cpu/index_check.h"
#include "cpu/tuning.h"

#define ML_ISA_SOURCE "ops/embedding_bag.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {
namespace {

// Each bag is a sum of its own, whatever task it is in.
int64_t bags_per_task(const KernelContext& ctx, int64_t bags, int64_t entries) {
  const int64_t target = kBagGrain * bags / std::max<int64_t>(1, entries);
  return std::max<int64_t>(1, std::min(target, bags / (kBagTasksPerThread * ctx.threads())));
}

}  // namespace

void embedding_bag(KernelContext& ctx, const EmbeddingBag& a) {
  const int64_t B = a.y.dim(0), V = a.y.dim(1);
  if (!a.indices_known) validate_indices(ctx, "embeddingBag", "indices", a.indices, a.table.dim(0));
  if (a.offsets) validate_offsets("embeddingBag", a.offsets, a.indices.size());
  if (a.y.size() == 0) return;  // another axis may be huge
  const auto block = ML_DISPATCH(embedding_bag_block);
  if (B >= kBagTasksPerThread * ctx.threads() || V <= kBagMaxColumns / 2) {
    ctx.parallel_for(B, bags_per_task(ctx, B, a.indices.size()),
                     [&](int64_t begin, int64_t end, int) { block(a, begin, end, 0, V); });
    return;
  }
  // Few bags: columns are divided too. A column's sum does not depend on how.
  const int64_t whole_blocks =
      (V / ctx.threads() + kBagMinColumns - 1) / kBagMinColumns * kBagMinColumns;
  const int64_t width = std::max(kBagMinColumns, std::min(kBagMaxColumns, whole_blocks));
  const int64_t column_blocks = (V + width - 1) / width;
  ctx.parallel_for(B * column_blocks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t b = u / column_blocks, c0 = u % column_blocks * width;
      block(a, b, b + 1, c0, std::min(V, c0 + width));
    }
  });
}

void embedding_bag_weights_backward(KernelContext& ctx, const EmbeddingBagWeightsBackward& a) {
  if (!a.indices_known)
    validate_indices(ctx, "embeddingBagBackward", "indices", a.indices, a.table.dim(0));
  if (a.offsets) validate_offsets("embeddingBagBackward", a.offsets, a.indices.size());
  if (a.indices.size() == 0) return;  // another axis may be huge
  const auto bags = ML_DISPATCH(weights_backward_bags);
  ctx.parallel_for(a.dy.dim(0), bags_per_task(ctx, a.dy.dim(0), a.indices.size()),
                   [&](int64_t begin, int64_t end, int) { bags(a, begin, end); });
}

}  // namespace ml::cpu
#endif
