// SortRows: the touched rows of all reads and the order of their entries.

#include "cpu/radix_sort.h"
#include "cpu/tuning.h"
#include "ops/sparse_grad.h"

#ifdef ML_ISA
namespace ml::cpu::ML_ISA {
namespace {

// What `count` sorted keys of one bucket say: order [count], the position of each; for each
// distinct row its index and where its entries end. begin: the bucket's first entry.
template <class Key>
[[maybe_unused]] void list_rows(const RadixPlan& shared_plan, const Key* keys, int64_t count,
                                uint32_t bucket, int64_t begin, int32_t* order, int32_t* rows,
                                int32_t* ends) {
  const RadixPlan plan = shared_plan;  // a copy that no store can reach
  int64_t i = 0;
#if ML_ISA_LEVEL == 3
  if constexpr (sizeof(Key) == sizeof(uint32_t)) {
    const __m128i shift = _mm_cvtsi32_si128(plan.position_bits());
    const __m512i upper = _mm512_set1_epi32(static_cast<int>(plan.index_of(bucket, 0)));
    const __m512i position = _mm512_set1_epi32(static_cast<int>(plan.position_of(~Key{0})));
    const __m512i one_to_16 =
        _mm512_setr_epi32(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
    for (; i + kWidth < count; i += kWidth) {
      const __m512i key = _mm512_loadu_si512(keys + i), lower = _mm512_srl_epi32(key, shift);
      const __m512i next = _mm512_srl_epi32(_mm512_loadu_si512(keys + i + 1), shift);
      const __m512i end =
          _mm512_add_epi32(one_to_16, _mm512_set1_epi32(static_cast<int>(begin + i)));
      const __mmask16 last = _mm512_cmpneq_epi32_mask(lower, next);
      const int n = __builtin_popcount(last);
      // masked: other threads write the elements behind
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

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "cpu/index_check.h"
#include "cpu/prefetch.h"

#define ML_ISA_SOURCE "ops/sort_rows.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {
namespace {

// f(position, indices, count) for what each read has of positions begin … end, all reads being
// numbered in one sequence
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
void count_entries(const RadixPlan& shared_plan, const int32_t* indices, int64_t n,
                   uint32_t* counts) {
  constexpr int kCopies = 4;  // of each counter: equal indices in a row do not wait for a store
  const RadixPlan plan = shared_plan;  // a copy that no store can reach
  uint32_t padding = 0;
  for (int64_t i = 0; i < n; ++i) padding += indices[i] < 0;
  const int64_t buckets = plan.buckets();
  uint32_t copies[kCopies << RadixPlan::kMaxBucketBits];
  std::memset(copies, 0, static_cast<size_t>(kCopies * buckets) * sizeof(uint32_t));
  int64_t i = 0;
  for (; i + kCopies <= n; i += kCopies)
    for (int k = 0; k < kCopies; ++k)
      ++copies[k * buckets + plan.bucket_of(static_cast<uint32_t>(indices[i + k]))];
  for (; i < n; ++i) ++copies[plan.bucket_of(static_cast<uint32_t>(indices[i]))];
  for (int64_t b = 0; b < buckets; ++b)
    for (int k = 0; k < kCopies; ++k) counts[b] += copies[k * buckets + b];
  counts[plan.bucket_of(~uint32_t{0})] -= padding;
}

// Partitions the entries that are not padding, as keys, into the plan's buckets, each in the order
// of positions; bucket b is begins[b] … begins[b + 1]. Throws before anything is written if an
// index or an offset is out of range.
template <class Key>
Key* partition_entries(KernelContext& ctx, const SortRows& a, const RadixPlan& shared_plan,
                       int64_t entries, int64_t* begins) {
  const int64_t chunks = (entries + kSparseGradGrain - 1) / kSparseGradGrain,
                buckets = shared_plan.buckets();
  uint32_t* counts = ctx.scratch<uint32_t>(chunks * buckets);
  std::atomic<bool> in_range{true};
  ctx.parallel_for(entries, kSparseGradGrain, [&](int64_t begin, int64_t end, int) {
    uint32_t* own = counts + begin / kSparseGradGrain * buckets;
    std::memset(own, 0, static_cast<size_t>(buckets) * sizeof(uint32_t));
    for_reads(a.reads, begin, end, [&](int64_t, const int32_t* indices, int64_t n) {
      if (!indices_in_range(indices, n, a.slots)) in_range.store(false, std::memory_order_relaxed);
      count_entries(shared_plan, indices, n, own);
    });
  });
  for (const TableRead& r : a.reads) {
    if (!in_range) validate_indices(ctx, a.op, a.argument, r.indices, a.slots);
    if (r.offsets) validate_offsets(a.op, r.offsets, r.indices.size());
  }
  int64_t sum = 0;
  for (int64_t b = 0; b < buckets; ++b) {
    begins[b] = sum;
    for (int64_t c = 0; c < chunks; ++c)
      sum += std::exchange(counts[c * buckets + b], static_cast<uint32_t>(sum));
  }
  begins[buckets] = sum;
  Key* keys = ctx.scratch<Key>(sum);
  ctx.parallel_for(entries, kSparseGradGrain, [&](int64_t begin, int64_t end, int) {
    const RadixPlan plan = shared_plan;
    uint32_t* next = counts + begin / kSparseGradGrain * buckets;
    Key* const out = keys;
    for_reads(a.reads, begin, end, [&](int64_t first, const int32_t* indices, int64_t n) {
      for (int64_t i = 0; i < n; ++i) {
        const uint32_t u = static_cast<uint32_t>(indices[i]);
        if (indices[i] < 0) continue;
        Key* to = out + next[plan.bucket_of(u)]++;
        prefetch_for_write(to + kCacheLine / sizeof(Key));
        *to = plan.key_of<Key>(u, static_cast<uint32_t>(first + i));
      }
    });
  });
  return keys;
}

template <class Key>
void sort_entries(KernelContext& ctx, const SortRows& a, const RadixPlan& shared_plan,
                  int64_t entries) {
  const int64_t buckets = shared_plan.buckets();
  int64_t* begins = ctx.scratch<int64_t>(buckets + 1);
  Key* keys = partition_entries<Key>(ctx, a, shared_plan, entries, begins);
  const int64_t n = begins[buckets];

  // The rows of all buckets are counted before any are written: a bucket's go behind those of the
  // buckets before it.
  Key* other = ctx.scratch<Key>(n);
  const Key** sorted = ctx.scratch<const Key*>(buckets);
  int64_t* before = ctx.scratch<int64_t>(buckets + 1);
  ctx.parallel_for(buckets, 1, [&](int64_t b, int64_t, int) {
    const RadixPlan plan = shared_plan;
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
    list(shared_plan, sorted[b], begins[b + 1] - begins[b], static_cast<uint32_t>(b), begins[b],
         a.order.as<int32_t>() + begins[b], a.rows.as<int32_t>() + before[b],
         a.starts.as<int32_t>() + 1 + before[b]);
  });
  a.starts.as<int32_t>()[0] = 0;
  *a.count.as<int32_t>() = static_cast<int32_t>(before[buckets]);
}

}  // namespace

void sort_rows(KernelContext& ctx, const SortRows& a) {
  const int64_t entries = entry_count(a.reads);
  const RadixPlan plan(entries, a.slots);
  plan.narrow() ? sort_entries<uint32_t>(ctx, a, plan, entries)
                : sort_entries<uint64_t>(ctx, a, plan, entries);
}

}  // namespace ml::cpu
#endif
