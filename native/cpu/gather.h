// The walk over random rows of a table, for gather_sum.h and gather_dot.h. Included inside an
// instruction-set pass, like simd.h.
//
// Rows are read in groups of several. While a cache line of one row is read, the same line of a
// later row is prefetched, across the borders of column blocks and bags, so that memory never waits
// for a bag to end. A prefetch blocks retirement until its address is translated, so what counts is
// few instructions a line.

#if defined(ML_CPU_GATHER_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_CPU_GATHER_H
#undef ML_CPU_GATHER_H
#else
#define ML_CPU_GATHER_H
#endif

#include "cpu/prefetch.h"
#include "cpu/tuning.h"

namespace ml::cpu::ML_ISA {
namespace {

// prefetcht1 fills L2: a core tracks more outstanding lines to L2 than to L1d (Zen 4: half as many
// again), and hides the latency of L2. Processors before AVX-512, Zen 3 among them, run it as
// prefetcht0, and drop prefetches while the two dozen line buffers of L1d are full. Where elements
// are narrow, the arithmetic of a row fills the reorder window, so a load whose prefetch was
// dropped stalls with nothing behind it: there each line is prefetched a second time, at half the
// distance. Rows of float32 are read fast enough to overlap those misses, and lose by the added
// instructions (docs/decisions/0005).
constexpr bool kPrefetchIntoL2 = kWidth == 16;
template <class T>
constexpr bool kPrefetchTwice = !kPrefetchIntoL2 && sizeof(T) < sizeof(float);

// Into which cache rows of a few lines are prefetched. Zen 5, one thread, of the unrolled ceiling:
// 1.04 to 1.12 by L1d against 0.93 to 0.99 by L2 (float32, 64 columns), 0.81 to 1.01 against 0.70
// to 0.81 (bfloat16, 256). Not measured on Intel cores, which keep to L2.
[[maybe_unused]] inline bool narrow_rows_into_l1d() {
#if defined(__x86_64__)
  return __builtin_cpu_is("amd");
#else
  return false;
#endif
}

template <class T>
struct Table {
  const T* rows;
  int64_t width;
};

// The entries begin … end of one bag within the flat lists of indices and weights.
struct BagEntries {
  const int32_t* indices;
  const float* weights;  // nullptr: ones
  const float* scales;   // by row, or nullptr
  int64_t begin, end;
};

// The prefetch targets after a bag: `count` entries whose rows are base + index * row_bytes.
struct NextRows {
  const int32_t* indices;
  int64_t count;
  const char* base;
  int64_t row_bytes;
};

template <class T>
inline NextRows next_rows(const Table<T>& table, const int32_t* indices, int64_t count,
                          int64_t column) {
  return {indices, count, reinterpret_cast<const char*>(table.rows + column),
          table.width * static_cast<int64_t>(sizeof(T))};
}

// The row of one of those entries; its scale is prefetched. `none` if there is no such row.
[[gnu::always_inline]] inline const char* next_row(const NextRows& next, int64_t entry,
                                                   const float* scales, const char* none) {
  if (entry >= next.count) return none;
  const int32_t index = next.indices[entry];
  if (index < 0) return none;
  if (scales) prefetch_l2(scales + index);
  return next.base + index * next.row_bytes;
}

inline int64_t bag_prefetch_distance(int64_t row_bytes) {
  return prefetch_distance(row_bytes, kBagPrefetchBytes,
                           kPrefetchIntoL2 ? kMaxBagPrefetchRowsAvx512 : kMaxBagPrefetchRows);
}

// Up to kRows rows of a bag that are read together, padding entries left out.
template <class T, int kRows>
struct RowGroup {
  const T* row[kRows];
  const char* ahead[kRows];       // prefetch target; the row itself if there is none
  const char* half_ahead[kRows];  // target of the second prefetch, if kPrefetchTwice
  float weight[kRows];
  int64_t entry[kRows];
  int count;
};

// The group from entry l on, its columns from `column` on. Returns the first entry behind it.
template <class T, int kRows>
inline int64_t next_group(const Table<T>& table, const BagEntries& p, const NextRows& next,
                          int64_t column, int64_t distance, int64_t l, RowGroup<T, kRows>& g) {
  // Copies: the compiler can't know that writes to the group leave the originals alone.
  const int32_t* const indices = p.indices;
  const float *const weights = p.weights, *const scales = p.scales;
  const NextRows own = next_rows(table, indices, p.end, column), then = next;
  const auto target = [&](int64_t entry, const char* none) {
    return entry < own.count ? next_row(own, entry, scales, none)
                             : next_row(then, entry - own.count, scales, none);
  };
  int count = 0;
  for (; l < own.count && count < kRows; ++l) {
    const int32_t index = indices[l];
    if (index < 0) continue;
    const int i = count++;
    const char* row = own.base + index * own.row_bytes;
    g.entry[i] = l;
    g.weight[i] = (weights ? weights[l] : 1.0f) * (scales ? scales[index] : 1.0f);
    g.row[i] = reinterpret_cast<const T*>(row);
    g.ahead[i] = target(l + distance, row);
    if constexpr (kPrefetchTwice<T>) g.half_ahead[i] = target(l + distance / 2, row);
  }
  g.count = count;
  return l;
}

// The rows that a task begins with, and their scales: nothing before it has prefetched them.
[[gnu::always_inline]] inline void prefetch_first_rows(const NextRows& first, int64_t bytes,
                                                       const float* scales) {
  const int64_t ahead = bag_prefetch_distance(bytes),
                rows = ahead < first.count ? ahead : first.count;
  for (int64_t l = 0; l < rows; ++l) {
    if (first.indices[l] < 0) continue;
    if (scales) prefetch_l2(scales + first.indices[l]);
    for (int64_t b = 0; b < bytes; b += kCacheLine)
      prefetch_l2(first.base + first.indices[l] * first.row_bytes + b);
  }
}

// The cache line of a column, of each row's prefetch target.
template <class T, int rows>
[[gnu::always_inline]] inline void prefetch_column(const char* const* ahead,
                                                   const char* const* half_ahead, int64_t column) {
  const int64_t offset = column * static_cast<int64_t>(sizeof(T));
  for (int r = 0; r < rows; ++r) prefetch_l2(ahead[r] + offset);
  if constexpr (kPrefetchTwice<T>)
    for (int r = 0; r < rows; ++r) prefetch_l1d(half_ahead[r] + offset);
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
