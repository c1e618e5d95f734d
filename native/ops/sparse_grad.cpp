#include "ops/sparse_grad.h"

#ifdef ML_ISA
#include "cpu/rows.h"
#include "cpu/row_gradient.h"
#else
#include <algorithm>

#include "cpu/hot_rows.h"
#include "cpu/places.h"
#include "cpu/radix_sort.h"
#include "ops/sparse_grad_cpu.h"

#define ML_ISA_SOURCE "ops/sparse_grad.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {
namespace {

constexpr int64_t kChunk = 1 << 14;  // pairs of one piece
constexpr int64_t kRows = 64;        // of one piece
constexpr int64_t kBags = 1024;      // of one piece

// f(position, index) for positions begin … end of the reads laid end to end
template <class F>
void for_places(const std::vector<TableRead>& reads, int64_t begin, int64_t end, F&& f) {
  int64_t first = 0;  // position of the read's first place
  for (const TableRead& r : reads) {
    const int32_t* index = r.indices.as<int32_t>() - first;
    const int64_t last = first + r.indices.size();
    for (int64_t i = std::max(begin, first); i < std::min(end, last); ++i) f(i, index[i]);
    first = last;
  }
}

// The places that are not empty, as pairs in the order of their positions; returns how many.
int64_t gather_pairs(Context& ctx, const std::vector<TableRead>& reads, int64_t places, Pair* pairs) {
  const int64_t chunks = (places + kChunk - 1) / kChunk;
  int64_t* before = ctx.scratch<int64_t>(chunks + 1);  // pairs before each chunk
  ctx.parallel_for(places, kChunk, [&](int64_t begin, int64_t end, int) {
    int64_t count = 0;
    for_places(reads, begin, end, [&](int64_t, int32_t index) { count += index >= 0; });
    before[begin / kChunk + 1] = count;
  });
  before[0] = 0;
  for (int64_t c = 0; c < chunks; ++c) before[c + 1] += before[c];
  ctx.parallel_for(places, kChunk, [&](int64_t begin, int64_t end, int) {
    Pair* to = pairs + before[begin / kChunk];
    for_places(reads, begin, end, [&](int64_t position, int32_t index) {
      if (index >= 0) *to++ = static_cast<uint64_t>(static_cast<uint32_t>(index)) << 32 | static_cast<uint64_t>(position);
    });
  });
  return before[chunks];
}

}  // namespace

ReadPlaces lay_out(Context& ctx, const std::vector<TableRead>& reads, int64_t width) {
  ReadSpan* spans = ctx.scratch<ReadSpan>(static_cast<int64_t>(reads.size()));
  int64_t at = 0, first_bag = 0;
  for (size_t i = 0; i < reads.size(); ++i) {
    const TableRead& r = reads[i];
    const int64_t places = r.indices.size();
    int32_t* bags = nullptr;
    if (r.offsets) {
      bags = ctx.scratch<int32_t>(places);
      const int32_t* o = r.offsets.as<int32_t>();
      ctx.parallel_for(r.offsets.size() - 1, kBags, [&](int64_t begin, int64_t end, int) {
        for (int64_t b = begin; b < end; ++b)
          for (int64_t l = o[b]; l < o[b + 1]; ++l) bags[l] = static_cast<int32_t>(b);
      });
    }
    const uint32_t bag_size = r.offsets ? 1 : static_cast<uint32_t>(r.indices.dim(1));
    spans[i] = {at, at + places, r.weights.as<float>(), r.dy.as<float>(), first_bag, bags, bag_size};
    at += places;
    first_bag += r.dy.dim(0);
  }
  return {spans, static_cast<int>(reads.size()), width};
}

void sort_rows(Context& ctx, const SortRows& a) {
  for (const TableRead& r : a.reads) {
    validate_indices(ctx, "embeddingBagBackward", "indices", r.indices, a.slots);
    if (r.offsets) validate_offsets("embeddingBagBackward", r.offsets, r.indices.size());
  }
  const int64_t places = places_of(a.reads);
  Pair* pairs = ctx.scratch<Pair>(places + 1);
  const int64_t n = gather_pairs(ctx, a.reads, places, pairs);
  const Pair* sorted = radix_sort(ctx, pairs, ctx.scratch<Pair>(places + 1), n, a.slots);

  int32_t *rows = a.rows.as<int32_t>(), *starts = a.starts.as<int32_t>(), *order = a.order.as<int32_t>();
  const int64_t chunks = (n + kChunk - 1) / kChunk;
  int32_t* before = ctx.scratch<int32_t>(chunks + 1);  // distinct rows that begin before each chunk
  const auto begins = [&](int64_t i) { return i == 0 || index_of(sorted[i]) != index_of(sorted[i - 1]); };
  ctx.parallel_for(n, kChunk, [&](int64_t begin, int64_t end, int) {
    int32_t count = 0;
    for (int64_t i = begin; i < end; ++i) count += begins(i);
    before[begin / kChunk + 1] = count;
  });
  before[0] = 0;
  for (int64_t c = 0; c < chunks; ++c) before[c + 1] += before[c];
  ctx.parallel_for(n, kChunk, [&](int64_t begin, int64_t end, int) {
    int32_t r = before[begin / kChunk];
    for (int64_t i = begin; i < end; ++i) {
      order[i] = static_cast<int32_t>(position_of(sorted[i]));
      if (!begins(i)) continue;
      rows[r] = static_cast<int32_t>(index_of(sorted[i]));
      starts[r++] = static_cast<int32_t>(i);
    }
  });
  const int32_t R = before[chunks];
  starts[R] = static_cast<int32_t>(n);
  *a.count.as<int32_t>() = R;
}

void sparse_grad_values(Context& ctx, const SparseGradValues& a) {
  const int64_t R = *a.count.as<int32_t>(), V = a.values.dim(1);
  const ReadPlaces places = lay_out(ctx, a.reads, V);
  const HotRows rows(ctx, places, a.starts.as<int32_t>(), a.order.as<int32_t>(), R, ML_DISPATCH(sum_places));
  ctx.parallel_for(R, kRows, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) rows.gradient(r, a.values.as<float>() + r * V);
  });
}

void sparse_grad_to_dense(Context& ctx, const SparseGradToDense& a) {
  const int64_t R = *a.count.as<int32_t>(), V = a.values.dim(1);
  ctx.parallel_for(R, kRows, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      float* row = a.dense.as<float>() + static_cast<int64_t>(a.rows.as<int32_t>()[r]) * V;
      const float* values = a.values.as<float>() + r * V;
      for (int64_t c = 0; c < V; ++c) row[c] += values[c];
    }
  });
}

}  // namespace ml::cpu
#endif
