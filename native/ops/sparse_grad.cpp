#include "ops/sparse_grad.h"

#ifdef ML_ISA
#include "cpu/radix_sort.h"
#include "cpu/row_gradient.h"
#include "cpu/rows.h"

namespace ml::cpu::ML_ISA {
namespace {

// What a sorted bucket of `count` keys says: of each key its position, of each row its index and
// where its entries end; the bucket's first entry is `begin`.
template <class Key>
[[maybe_unused]] void list_rows(const RadixPlan& shared, const Key* keys, int64_t count,
                                uint32_t bucket, int64_t begin, int32_t* order, int32_t* rows,
                                int32_t* ends) {
  const RadixPlan plan = shared;  // a copy that no store can reach
  int64_t i = 0;
#if ML_ISA_LEVEL == 3
  if constexpr (sizeof(Key) == sizeof(uint32_t)) {
    const __m128i shift = _mm_cvtsi32_si128(plan.position_bits());
    const __m512i upper = _mm512_set1_epi32(static_cast<int>(plan.index_of(bucket, 0)));
    const __m512i position = _mm512_set1_epi32(static_cast<int>(plan.position_of(~Key{0})));
    const __m512i counted =
        _mm512_setr_epi32(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
    for (; i + kWidth < count; i += kWidth) {
      const __m512i key = _mm512_loadu_si512(keys + i), lower = _mm512_srl_epi32(key, shift);
      const __m512i next = _mm512_srl_epi32(_mm512_loadu_si512(keys + i + 1), shift);
      const __m512i end = _mm512_add_epi32(counted, _mm512_set1_epi32(static_cast<int>(begin + i)));
      const __mmask16 last = _mm512_cmpneq_epi32_mask(lower, next);
      const int n = __builtin_popcount(last);
      // other threads write what lies behind
      const __mmask16 first_n = static_cast<__mmask16>((1u << n) - 1u);
      _mm512_storeu_si512(order + i, _mm512_and_si512(key, position));
      _mm512_mask_storeu_epi32(rows, first_n,
                               _mm512_maskz_compress_epi32(last, _mm512_or_si512(lower, upper)));
      _mm512_mask_storeu_epi32(ends, first_n, _mm512_maskz_compress_epi32(last, end));
      rows += n;
      ends += n;
    }
  }
#endif
  for (; i < count; ++i) {
    const uint32_t lower = plan.lower_of(keys[i]);
    order[i] = static_cast<int32_t>(plan.position_of(keys[i]));
    *rows = static_cast<int32_t>(plan.index_of(bucket, lower));
    *ends = static_cast<int32_t>(begin + i + 1);
    const int64_t n = i + 1 == count || plan.lower_of(keys[i + 1]) != lower;
    rows += n;
    ends += n;
  }
}

// The entries of bags begin … end, by position from the first bag's first on. offsets: where each
// bag begins, or nullptr: each has bag_size.
[[maybe_unused]] void list_entries(const float* weights, const int32_t* offsets, int64_t bag_size,
                                   int64_t begin, int64_t end, uint32_t first_bag, Entry* to) {
  for (int64_t b = begin; b < end; ++b) {
    const uint32_t bag = first_bag + static_cast<uint32_t>(b);
    const Vec bags = as_float(IVec{} + static_cast<int32_t>(bag));
    const int64_t last = offsets ? offsets[b + 1] : (b + 1) * bag_size;
    int64_t l = offsets ? offsets[b] : b * bag_size;
    for (; l + kWidth <= last; l += kWidth)
      interleave(reinterpret_cast<float*>(to + l), load(weights + l), bags);
    for (; l < last; ++l) to[l] = {weights[l], bag};
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include <algorithm>
#include <atomic>
#include <utility>

#include "cpu/hot_rows.h"
#include "cpu/index_check.h"
#include "cpu/prefetch.h"
#include "cpu/radix_sort.h"
#include "ops/sparse_grad_cpu.h"

#define ML_ISA_SOURCE "ops/sparse_grad.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {
namespace {

constexpr int64_t kChunk = 1 << 13;  // entries of one piece
constexpr int64_t kRows = 64;        // of one piece

// f(position, indices, count) for what each read has of positions begin … end, the reads laid end
// to end
template <class F>
void for_reads(const std::vector<TableRead>& reads, int64_t begin, int64_t end, F&& f) {
  int64_t first = 0;  // position of the read's first entry
  for (const TableRead& r : reads) {
    const int64_t last = first + r.indices.size(), from = std::max(begin, first),
                  to = std::min(end, last);
    if (from < to) f(from, r.indices.as<int32_t>() + (from - first), to - from);
    first = last;
  }
}

// Adds to counts[b] how many of the indices fall into bucket b. An index of -1 is a padding entry,
// which is not counted.
void count_entries(const RadixPlan& shared, const int32_t* indices, int64_t n, uint32_t* counts) {
  constexpr int kSides = 4;       // counters of a bucket, or one index waits for the last
  const RadixPlan plan = shared;  // a copy that no store can reach
  uint32_t empty = 0;
  for (int64_t i = 0; i < n; ++i) empty += indices[i] < 0;
  const int64_t buckets = plan.buckets();
  uint32_t sides[kSides << RadixPlan::kMaxBucketBits];
  std::memset(sides, 0, static_cast<size_t>(kSides * buckets) * sizeof(uint32_t));
  int64_t i = 0;
  for (; i + kSides <= n; i += kSides)
    for (int k = 0; k < kSides; ++k)
      ++sides[k * buckets + plan.bucket_of(static_cast<uint32_t>(indices[i + k]))];
  for (; i < n; ++i) ++sides[plan.bucket_of(static_cast<uint32_t>(indices[i]))];
  for (int64_t b = 0; b < buckets; ++b)
    for (int k = 0; k < kSides; ++k) counts[b] += sides[k * buckets + b];
  counts[plan.bucket_of(~uint32_t{0})] -= empty;
}

// The entries that are not empty, as keys parted into the plan's buckets in the order of their
// positions; bucket b is begins[b] … begins[b + 1]. Throws before anything is written if an index
// or an offset is not sound.
template <class Key>
Key* part(Context& ctx, const SortRows& a, const RadixPlan& shared, int64_t entries,
          int64_t* begins) {
  const int64_t chunks = (entries + kChunk - 1) / kChunk, buckets = shared.buckets();
  uint32_t* counts = ctx.scratch<uint32_t>(chunks * buckets);
  std::atomic<bool> sound{true};
  ctx.parallel_for(entries, kChunk, [&](int64_t begin, int64_t end, int) {
    uint32_t* own = counts + begin / kChunk * buckets;
    std::memset(own, 0, static_cast<size_t>(buckets) * sizeof(uint32_t));
    for_reads(a.reads, begin, end, [&](int64_t, const int32_t* indices, int64_t n) {
      if (!indices_in_range(indices, n, a.slots)) sound.store(false, std::memory_order_relaxed);
      count_entries(shared, indices, n, own);
    });
  });
  for (const TableRead& r : a.reads) {
    if (!sound) validate_indices(ctx, "embeddingBagBackward", "indices", r.indices, a.slots);
    if (r.offsets) validate_offsets("embeddingBagBackward", r.offsets, r.indices.size());
  }
  int64_t sum = 0;
  for (int64_t b = 0; b < buckets; ++b) {
    begins[b] = sum;
    for (int64_t c = 0; c < chunks; ++c)
      sum += std::exchange(counts[c * buckets + b], static_cast<uint32_t>(sum));
  }
  begins[buckets] = sum;
  Key* keys = ctx.scratch<Key>(sum);
  ctx.parallel_for(entries, kChunk, [&](int64_t begin, int64_t end, int) {
    const RadixPlan plan = shared;
    uint32_t* next = counts + begin / kChunk * buckets;
    Key* to = keys;
    for_reads(a.reads, begin, end, [&](int64_t first, const int32_t* indices, int64_t n) {
      for (int64_t i = 0; i < n; ++i) {
        const uint32_t u = static_cast<uint32_t>(indices[i]);
        if (indices[i] < 0) continue;
        Key* at = to + next[plan.bucket_of(u)]++;
        prefetch_for_write(at + kCacheLine / sizeof(Key));
        *at = plan.key_of<Key>(u, static_cast<uint32_t>(first + i));
      }
    });
  });
  return keys;
}

template <class Key>
void sort_entries(Context& ctx, const SortRows& a, const RadixPlan& shared, int64_t entries) {
  const int64_t buckets = shared.buckets();
  int64_t* begins = ctx.scratch<int64_t>(buckets + 1);
  Key* keys = part<Key>(ctx, a, shared, entries, begins);
  const int64_t n = begins[buckets];

  // A bucket's rows are counted before any are written: where they go depends on how many lie
  // before it.
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
  const auto list = ML_DISPATCH(list_rows<Key>);
  ctx.parallel_for(buckets, 1, [&](int64_t b, int64_t, int) {
    list(shared, sorted[b], begins[b + 1] - begins[b], static_cast<uint32_t>(b), begins[b],
         a.order.as<int32_t>() + begins[b], a.rows.as<int32_t>() + before[b],
         a.starts.as<int32_t>() + 1 + before[b]);
  });
  a.starts.as<int32_t>()[0] = 0;
  *a.count.as<int32_t>() = static_cast<int32_t>(before[buckets]);
}

}  // namespace

RowEntries gather_entries(Context& ctx, const std::vector<TableRead>& reads, const int32_t* order,
                          const int32_t* starts, int64_t R, int64_t width) {
  int64_t bags_in_all = 0;
  for (const TableRead& r : reads) bags_in_all += r.dy.dim(0);
  const float** dy = ctx.scratch<const float*>(bags_in_all);
  Entry* drawn = ctx.scratch<Entry>(entry_count(reads));  // by position
  int64_t first_bag = 0, first = 0;
  for (const TableRead& r : reads) {
    const int64_t bags = r.dy.dim(0), entries = r.indices.size();
    const int64_t bag_size = r.offsets ? 0 : r.indices.dim(1);
    const int32_t* offsets = r.offsets ? r.offsets.as<int32_t>() : nullptr;
    ctx.parallel_for(bags, std::max<int64_t>(1, kChunk * bags / std::max<int64_t>(entries, 1)),
                     [&](int64_t begin, int64_t end, int) {
                       for (int64_t b = begin; b < end; ++b)
                         dy[first_bag + b] = r.dy.as<float>() + b * width;
                       ML_DISPATCH(list_entries)(r.weights.as<float>(), offsets, bag_size, begin,
                                                 end, static_cast<uint32_t>(first_bag),
                                                 drawn + first);
                     });
    first_bag += bags;
    first += entries;
  }
  const int64_t n = starts[R];
  Entry* out = ctx.scratch<Entry>(n);
  ctx.parallel_for(n, kChunk, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) out[i] = drawn[order[i]];
  });
  return {out, starts, dy, bags_in_all, width};
}

void sort_rows(Context& ctx, const SortRows& a) {
  const int64_t entries = entry_count(a.reads);
  const RadixPlan plan(entries, a.slots);
  plan.narrow() ? sort_entries<uint32_t>(ctx, a, plan, entries)
                : sort_entries<uint64_t>(ctx, a, plan, entries);
}

void sparse_grad_values(Context& ctx, const SparseGradValues& a) {
  const int64_t R = *a.count.as<int32_t>(), V = a.values.dim(1);
  const HotRows rows(
      ctx, gather_entries(ctx, a.reads, a.order.as<int32_t>(), a.starts.as<int32_t>(), R, V), R,
      ML_DISPATCH(sum_entries));
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
