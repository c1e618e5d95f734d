#include "ops/embedding_bag.h"

#ifdef ML_ISA
#include "cpu/gather_dot.h"
#include "cpu/gather_sum.h"

namespace ml::cpu::ML_ISA {
namespace {

// Bags b0 … b1, columns c0 … c1.
template <class T>
void sum_bags(const EmbeddingBag& a, int64_t b0, int64_t b1, int64_t c0, int64_t c1) {
  const int64_t V = a.table.dim(1);
  const int32_t* offsets = a.offsets ? a.offsets.as<int32_t>() : nullptr;
  const int64_t L = offsets ? 0 : a.indices.dim(1);
  const Table<T> table{a.table.as<T>(), V};
  BagEntries p{a.indices.as<int32_t>(), a.weights.as<float>(),
               a.scales ? a.scales.as<float>() : nullptr, 0, 0};
  const int64_t last = offsets ? offsets[b1] : b1 * L;
  const int64_t first = offsets ? offsets[b0] : b0 * L;
  const int64_t columns = c1 - c0 < BlockSums<T>::kColumns ? c1 - c0 : BlockSums<T>::kColumns;
  prefetch_first_rows(next_rows(table, p.indices + first, last - first, c0),
                      columns * static_cast<int64_t>(sizeof(T)), p.scales);
  for (int64_t b = b0; b < b1; ++b) {
    p.begin = offsets ? offsets[b] : b * L;
    p.end = offsets ? offsets[b + 1] : (b + 1) * L;
    bag_sum(table, p, c0, c1, a.y.as<float>() + b * V, false,
            next_rows(table, p.indices + p.end, last - p.end, c0));
  }
}

template <class T>
void dot_bags(const EmbeddingBagWeightsBackward& a, int64_t b0, int64_t b1) {
  const int64_t V = a.table.dim(1);
  const int32_t* offsets = a.offsets ? a.offsets.as<int32_t>() : nullptr;
  const int64_t L = offsets ? 0 : a.indices.dim(1);
  const Table<T> table{a.table.as<T>(), V};
  BagEntries p{a.indices.as<int32_t>(), nullptr, a.scales ? a.scales.as<float>() : nullptr, 0, 0};
  const int64_t last = offsets ? offsets[b1] : b1 * L;
  const int64_t first = offsets ? offsets[b0] : b0 * L;
  prefetch_first_rows(next_rows(table, p.indices + first, last - first, 0),
                      V * static_cast<int64_t>(sizeof(T)), p.scales);
  for (int64_t b = b0; b < b1; ++b) {
    p.begin = offsets ? offsets[b] : b * L;
    p.end = offsets ? offsets[b + 1] : (b + 1) * L;
    bag_dots(table, p, a.dy.as<float>() + b * V, a.dweights.as<float>(),
             next_rows(table, p.indices + p.end, last - p.end, 0));
  }
}

void bag_pieces(const EmbeddingBag& a, int64_t b0, int64_t b1, int64_t c0, int64_t c1) {
  if (a.table.dtype == DType::i8) return sum_bags<int8_t>(a, b0, b1, c0, c1);
  dispatch_float(a.table.dtype, [&](auto t) { sum_bags<decltype(t)>(a, b0, b1, c0, c1); });
}

void weights_pieces(const EmbeddingBagWeightsBackward& a, int64_t b0, int64_t b1) {
  if (a.table.dtype == DType::i8) return dot_bags<int8_t>(a, b0, b1);
  dispatch_float(a.table.dtype, [&](auto t) { dot_bags<decltype(t)>(a, b0, b1); });
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include <algorithm>

#include "cpu/index_check.h"

#define ML_ISA_SOURCE "ops/embedding_bag.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {
namespace {

constexpr int64_t kPlaces = 1024;  // of one piece of bags, about
constexpr int64_t kPieces = 4;     // for each thread at least, where there are bags enough
// of one piece, where there are fewer bags than threads can share
constexpr int64_t kColumns = 256;

// Bags of one piece. Each bag is a sum of its own, whatever piece it is in.
int64_t bags_of_piece(const Context& ctx, int64_t bags, int64_t entries) {
  const int64_t wanted = kPlaces * bags / std::max<int64_t>(1, entries);
  return std::max<int64_t>(1, std::min(wanted, bags / (kPieces * ctx.threads())));
}

}  // namespace

void embedding_bag(Context& ctx, const EmbeddingBag& a) {
  const int64_t B = a.y.dim(0), V = a.y.dim(1);
  validate_indices(ctx, "embeddingBag", "indices", a.indices, a.table.dim(0));
  if (a.offsets) validate_offsets("embeddingBag", a.offsets, a.indices.size());
  const auto pieces = ML_DISPATCH(bag_pieces);
  if (B >= kPieces * ctx.threads() || V <= kColumns / 2) {
    ctx.parallel_for(B, bags_of_piece(ctx, B, a.indices.size()),
                     [&](int64_t begin, int64_t end, int) { pieces(a, begin, end, 0, V); });
    return;
  }
  // Few bags: columns are shared out too. A column's sum is the same however they are cut.
  const int64_t width =
      std::max<int64_t>(64, std::min(kColumns, (V / ctx.threads() + 63) / 64 * 64));
  const int64_t cuts = (V + width - 1) / width;
  ctx.parallel_for(B * cuts, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t b = u / cuts, c0 = u % cuts * width;
      pieces(a, b, b + 1, c0, std::min(V, c0 + width));
    }
  });
}

void embedding_bag_weights_backward(Context& ctx, const EmbeddingBagWeightsBackward& a) {
  validate_indices(ctx, "embeddingBagBackward", "indices", a.indices, a.table.dim(0));
  if (a.offsets) validate_offsets("embeddingBagBackward", a.offsets, a.indices.size());
  const auto pieces = ML_DISPATCH(weights_pieces);
  ctx.parallel_for(a.dy.dim(0), bags_of_piece(ctx, a.dy.dim(0), a.indices.size()),
                   [&](int64_t begin, int64_t end, int) { pieces(a, begin, end); });
}

}  // namespace ml::cpu
#endif
