#include "ops/sparse_grad.h"

#ifdef ML_ISA
#include "cpu/rows.h"
#include "cpu/row_gradient.h"
#else
#include <algorithm>
#include <atomic>
#include <utility>

#include "cpu/hot_rows.h"
#include "cpu/places.h"
#include "cpu/prefetch.h"
#include "cpu/radix_sort.h"
#include "ops/sparse_grad_cpu.h"

#define ML_ISA_SOURCE "ops/sparse_grad.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {
namespace {

constexpr int64_t kChunk = 1 << 13;  // places of one piece
constexpr int64_t kRows = 64;        // of one piece

// f(position, index) for positions begin … end of the reads laid end to end
template <class F>
void for_places(const std::vector<TableRead>& reads, int64_t begin, int64_t end, F&& f) {
  int64_t first = 0;  // position of the read's first place
  for (const TableRead& r : reads) {
    const int32_t* index = r.indices.as<int32_t>();
    const int64_t last = first + r.indices.size();
    for (int64_t i = std::max(begin, first); i < std::min(end, last); ++i) f(i, index[i - first]);
    first = last;
  }
}

// The places that are not empty, as keys parted into the plan's buckets in the order of their positions; bucket b is begins[b] … begins[b + 1].
// Throws before anything is written if an index or an offset is not sound.
template <class Key>
Key* part(Context& ctx, const SortRows& a, const RadixPlan& shared, int64_t places, int64_t* begins) {
  const int64_t chunks = (places + kChunk - 1) / kChunk, buckets = shared.buckets();
  uint32_t* counts = ctx.scratch<uint32_t>(chunks * buckets);
  std::atomic<bool> sound{true};
  ctx.parallel_for(places, kChunk, [&](int64_t begin, int64_t end, int) {
    const RadixPlan plan = shared;  // a copy that no store can reach
    const uint32_t slots = static_cast<uint32_t>(a.slots);
    uint32_t* own = counts + begin / kChunk * buckets;
    std::memset(own, 0, static_cast<size_t>(buckets) * sizeof(uint32_t));
    uint32_t bad = 0;
    for_places(a.reads, begin, end, [&](int64_t, int32_t index) {
      const uint32_t u = static_cast<uint32_t>(index);
      bad |= u + 1u > slots;  // not -1 … slots - 1
      own[plan.bucket_of(u)] += index >= 0;
    });
    if (bad) sound.store(false, std::memory_order_relaxed);
  });
  for (const TableRead& r : a.reads) {
    if (!sound) validate_indices(ctx, "embeddingBagBackward", "indices", r.indices, a.slots);
    if (r.offsets) validate_offsets("embeddingBagBackward", r.offsets, r.indices.size());
  }
  int64_t sum = 0;
  for (int64_t b = 0; b < buckets; ++b) {
    begins[b] = sum;
    for (int64_t c = 0; c < chunks; ++c) sum += std::exchange(counts[c * buckets + b], static_cast<uint32_t>(sum));
  }
  begins[buckets] = sum;
  Key* keys = ctx.scratch<Key>(sum);
  ctx.parallel_for(places, kChunk, [&](int64_t begin, int64_t end, int) {
    const RadixPlan plan = shared;
    uint32_t* next = counts + begin / kChunk * buckets;
    Key* to = keys;
    for_places(a.reads, begin, end, [&](int64_t position, int32_t index) {
      const uint32_t u = static_cast<uint32_t>(index);
      if (index < 0) return;
      Key* at = to + next[plan.bucket_of(u)]++;
      prefetch_to_write(at + kLine / sizeof(Key));
      *at = plan.key_of<Key>(u, static_cast<uint32_t>(position));
    });
  });
  return keys;
}

template <class Key>
void sort_places(Context& ctx, const SortRows& a, const RadixPlan& shared, int64_t places) {
  const int64_t buckets = shared.buckets();
  int64_t* begins = ctx.scratch<int64_t>(buckets + 1);
  Key* keys = part<Key>(ctx, a, shared, places, begins);
  const int64_t n = begins[buckets];

  // A bucket's rows are counted before any are written: where they go depends on how many lie before it.
  Key* other = ctx.scratch<Key>(n);
  const Key** sorted = ctx.scratch<const Key*>(buckets);
  int64_t* before = ctx.scratch<int64_t>(buckets + 1);
  ctx.parallel_for(buckets, 1, [&](int64_t b, int64_t, int) {
    const RadixPlan plan = shared;
    const int64_t count = begins[b + 1] - begins[b];
    const Key* own = plan.sort_bucket(keys + begins[b], other + begins[b], count);
    int64_t rows = count > 0;
    for (int64_t i = 1; i < count; ++i) rows += plan.lower_of(own[i]) != plan.lower_of(own[i - 1]);
    sorted[b] = own;
    before[b + 1] = rows;
  });
  before[0] = 0;
  for (int64_t b = 0; b < buckets; ++b) before[b + 1] += before[b];
  ctx.parallel_for(buckets, 1, [&](int64_t b, int64_t, int) {
    const RadixPlan plan = shared;
    const int64_t begin = begins[b], count = begins[b + 1] - begin;
    const Key* own = sorted[b];
    int32_t *order = a.order.as<int32_t>(), *rows = a.rows.as<int32_t>(), *ends = a.starts.as<int32_t>() + 1;
    int64_t r = before[b];
    for (int64_t i = 0; i < count; ++i) {
      const uint32_t lower = plan.lower_of(own[i]);
      order[begin + i] = static_cast<int32_t>(plan.position_of(own[i]));
      rows[r] = static_cast<int32_t>(plan.index_of(static_cast<uint32_t>(b), lower));
      ends[r] = static_cast<int32_t>(begin + i + 1);
      r += i + 1 == count || plan.lower_of(own[i + 1]) != lower;
    }
  });
  a.starts.as<int32_t>()[0] = 0;
  *a.count.as<int32_t>() = static_cast<int32_t>(before[buckets]);
}

}  // namespace

ReadPlaces lay_out(Context& ctx, const std::vector<TableRead>& reads, const int32_t* order, const int32_t* starts, int64_t R, int64_t width) {
  int64_t bags_in_all = 0;
  for (const TableRead& r : reads) bags_in_all += r.dy.dim(0);
  const float** dy = ctx.scratch<const float*>(bags_in_all);
  Place* drawn = ctx.scratch<Place>(places_of(reads));  // by position
  int64_t first_bag = 0, first = 0;
  for (const TableRead& r : reads) {
    const int64_t bags = r.dy.dim(0), places = r.indices.size();
    const int64_t bag_size = r.offsets ? 0 : r.indices.dim(1);
    const int32_t* offsets = r.offsets ? r.offsets.as<int32_t>() : nullptr;
    ctx.parallel_for(bags, std::max<int64_t>(1, kChunk * bags / std::max<int64_t>(places, 1)), [&](int64_t begin, int64_t end, int) {
      const float* weights = r.weights.as<float>();
      Place* to = drawn + first;
      for (int64_t b = begin; b < end; ++b) {
        const uint32_t bag = static_cast<uint32_t>(first_bag + b);
        dy[bag] = r.dy.as<float>() + b * width;
        const int64_t last = offsets ? offsets[b + 1] : (b + 1) * bag_size;
        for (int64_t l = offsets ? offsets[b] : b * bag_size; l < last; ++l) to[l] = {weights[l], bag};
      }
    });
    first_bag += bags;
    first += places;
  }
  const int64_t n = starts[R];
  Place* out = ctx.scratch<Place>(n);
  ctx.parallel_for(n, kChunk, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) out[i] = drawn[order[i]];
  });
  return {out, starts, dy, bags_in_all, width};
}

void sort_rows(Context& ctx, const SortRows& a) {
  const int64_t places = places_of(a.reads);
  const RadixPlan plan(places, a.slots);
  plan.narrow() ? sort_places<uint32_t>(ctx, a, plan, places) : sort_places<uint64_t>(ctx, a, plan, places);
}

void sparse_grad_values(Context& ctx, const SparseGradValues& a) {
  const int64_t R = *a.count.as<int32_t>(), V = a.values.dim(1);
  const HotRows rows(ctx, lay_out(ctx, a.reads, a.order.as<int32_t>(), a.starts.as<int32_t>(), R, V), R, ML_DISPATCH(sum_places));
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
