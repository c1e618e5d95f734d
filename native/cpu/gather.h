// Random rows of a table: their weighted sum, and their products with one vector. Included inside
// an instruction-set pass, like simd.h.
//
// Rows are taken several at a time, so that sums that lie in the first cache are loaded and stored
// once for all of them, and a row is walked from end to end. While a line is read, the same line of
// a later row is prefetched, across the borders of column blocks and bags: the memory never waits
// for a bag to end.

#if defined(ML_CPU_GATHER_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_CPU_GATHER_H
#undef ML_CPU_GATHER_H
#else
#define ML_CPU_GATHER_H
#endif

#include "cpu/prefetch.h"

namespace ml::cpu::ML_ISA {
namespace {

// Prefetches ask for the second cache: it waits for more lines at a time than the first (on Zen 4
// for half as many again), and its latency is one that a core hides. Processors before AVX-512, Zen
// 3 among them, take that for the first cache, whose two dozen line buffers drop what comes while
// they are full. Where elements are narrow, the arithmetic of a row fills the reorder window, so
// that a read of a dropped line is waited for with nothing behind it: there lines are prefetched
// again, half as far ahead. Rows of float32 are read fast enough to overlap those waits, and lose
// by the instructions.
constexpr bool kSecondCache = kWidth == 16;
template <class T>
constexpr bool kTwice = !kSecondCache && sizeof(T) < sizeof(float);

constexpr int kDotRows = 4;  // taken at a time for products: each has two sums in registers
constexpr int64_t kAheadBytes = 32768;  // prefetched before they are read
// rows: their pages and those being read fit the first TLB
constexpr int64_t kMostAhead = kSecondCache ? 24 : 16;

template <class T>
struct Table {
  const T* rows;
  int64_t width;
};

// BagEntries of one bag within the flat lists of indices and weights.
struct BagEntries {
  const int32_t* indices;
  const float* weights;  // nullptr: ones
  const float* scales;   // by row, or nullptr
  int64_t begin, end;
};

// What is read after a bag: `count` entries whose rows are base + index * row_bytes. Only
// prefetched.
struct Coming {
  const int32_t* indices;
  int64_t count;
  const char* base;
  int64_t row_bytes;
};

template <class T>
inline Coming coming(const Table<T>& table, const int32_t* indices, int64_t count, int64_t column) {
  return {indices, count, reinterpret_cast<const char*>(table.rows + column),
          table.width * static_cast<int64_t>(sizeof(T))};
}

// The row of a entry among those; its scale is prefetched. `none` where there is none.
[[gnu::always_inline]] inline const char* coming_row(const Coming& c, int64_t entry,
                                                     const float* scales, const char* none) {
  if (entry >= c.count) return none;
  const int32_t index = c.indices[entry];
  if (index < 0) return none;
  if (scales) prefetch_l2(scales + index);
  return c.base + index * c.row_bytes;
}

// The walk over a bag's entries in groups of rows, empty entries left out.
template <class T, int kRows>
struct Group {
  const T* row[kRows];
  const char* far[kRows];   // to prefetch; the row itself where nothing comes
  const char* near[kRows];  // to prefetch again, if kTwice
  float weight[kRows];
  int64_t entry[kRows];
  int count;
};

// Takes the next rows from entry l on, their columns from `column` on; returns the entry behind
// them.
template <class T, int kRows>
inline int64_t take(const Table<T>& table, const BagEntries& p, const Coming& next, int64_t column,
                    int64_t distance, int64_t l, Group<T, kRows>& g) {
  // Copies: the compiler can't know that writes to the group leave the originals alone.
  const int32_t* const indices = p.indices;
  const float *const weights = p.weights, *const scales = p.scales;
  const Coming own = coming(table, indices, p.end, column), then = next;
  const auto later = [&](int64_t entry, const char* none) {
    return entry < own.count ? coming_row(own, entry, scales, none)
                             : coming_row(then, entry - own.count, scales, none);
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
    g.far[i] = later(l + distance, row);
    if constexpr (kTwice<T>) g.near[i] = later(l + distance / 2, row);
  }
  g.count = count;
  return l;
}

// The rows that a piece of work begins with, and their scales: nothing before it has prefetched
// them.
[[gnu::always_inline]] inline void prefetch_first(const Coming& first, int64_t bytes,
                                                  const float* scales) {
  const int64_t ahead = prefetch_distance(bytes, kAheadBytes, kMostAhead),
                rows = ahead < first.count ? ahead : first.count;
  for (int64_t l = 0; l < rows; ++l) {
    if (first.indices[l] < 0) continue;
    if (scales) prefetch_l2(scales + first.indices[l]);
    for (int64_t b = 0; b < bytes; b += kCacheLine)
      prefetch_l2(first.base + first.indices[l] * first.row_bytes + b);
  }
}

// The line of a column, of each row that comes.
template <class T, int rows>
[[gnu::always_inline]] inline void prefetch_lines(const char* const* far, const char* const* near,
                                                  int64_t column) {
  const int64_t at = column * static_cast<int64_t>(sizeof(T));
  for (int r = 0; r < rows; ++r) prefetch_l2(far[r] + at);
  if constexpr (kTwice<T>)
    for (int r = 0; r < rows; ++r) prefetch_l1d(near[r] + at);
}

// Sums of a column block. A pair of vectors of bfloat16 is kept as its even and its odd elements,
// which are a shift and a mask away from the row; everything else lies in order.
template <class T>
class Sums {
 public:
  static constexpr int64_t kColumns = kSecondCache ? 1024 : 2048 / static_cast<int64_t>(sizeof(T));
  static constexpr int kStep = kCacheLine / static_cast<int>(sizeof(T));  // elements of a line
  // taken at a time: bytes need registers to be converted in
  static constexpr int kRows = sizeof(T) > 1 ? 8 : kSecondCache ? 2 : 4;
  static constexpr bool kPairs = std::is_same_v<T, BFloat16>;

  // From y, or from zero.
  void start(const float* y, int64_t columns) {
    if (!y) {
      for (int64_t c = 0; c < columns; ++c) sum[c] = 0;
      return;
    }
    std::memcpy(sum, y, static_cast<size_t>(columns) * sizeof(float));
    for (int64_t c = 0; kPairs && c + kStep <= columns; c += 2 * kWidth)
      for (int i = 0; i < kWidth; ++i) {
        sum[c + i] = y[c + 2 * i];
        sum[c + kWidth + i] = y[c + 2 * i + 1];
      }
  }
  void finish(float* y, int64_t columns) const {
    int64_t c = 0;
    if constexpr (kPairs)
      for (; c < columns / kStep * kStep; c += 2 * kWidth)
        interleave(y + c, load(sum + c), load(sum + c + kWidth));
    std::memcpy(y + c, sum + c, static_cast<size_t>(columns - c) * sizeof(float));
  }

  // sum += weight * row, for the rows of a group one after another
  void add(const Group<T, kRows>& g, int64_t columns) {
    if (g.count == kRows) return add_rows<kRows>(g, 0, columns);
    int first = 0;
    if (kRows > 4 && g.count & 4) {
      add_rows<4>(g, first, columns);
      first += 4;
    }
    if (g.count & 2) {
      add_rows<2>(g, first, columns);
      first += 2;
    }
    if (g.count & 1) add_rows<1>(g, first, columns);
  }

 private:
  template <int rows>
  void add_rows(const Group<T, kRows>& g, int first, int64_t columns) {
    Vec w[rows];
    const T* row[rows];
    const char *far[rows], *near[rows];
    for (int r = 0; r < rows; ++r) {
      w[r] = set1(g.weight[first + r]);
      row[r] = g.row[first + r];
      far[r] = g.far[first + r];
      if constexpr (kTwice<T>) near[r] = g.near[first + r];
    }
    int64_t c = 0;
    for (; c + kStep <= columns; c += kStep) {
      prefetch_lines<T, rows>(far, near, c);
      if constexpr (kPairs) {
        for (int64_t v = c; v < c + kStep; v += 2 * kWidth) {
          Vec even = load(sum + v), odd = load(sum + v + kWidth);
          for (int r = 0; r < rows; ++r) {
            const IVec both = load_bits(row[r] + v);
            even = fma(w[r], as_float(both << 16), even);
            odd = fma(w[r], as_float(both & static_cast<int32_t>(0xffff0000)), odd);
          }
          store(sum + v, even);
          store(sum + v + kWidth, odd);
        }
      } else {
        for (int64_t v = c; v < c + kStep; v += kWidth) {
          Vec s = load(sum + v);
          for (int r = 0; r < rows; ++r) s = fma(w[r], load(row[r] + v), s);
          store(sum + v, s);
        }
      }
    }
    if (c == columns) return;
    prefetch_lines<T, rows>(far, near, columns - 1);
    for (; c + kWidth <= columns; c += kWidth) {
      Vec s = load(sum + c);
      for (int r = 0; r < rows; ++r) s = fma(w[r], load(row[r] + c), s);
      store(sum + c, s);
    }
    for (; c < columns; ++c) {
      Vec s = set1(sum[c]);
      for (int r = 0; r < rows; ++r) s = fma(w[r], set1(load_one(row[r] + c)), s);
      sum[c] = s[0];
    }
  }

  alignas(64) float sum[kColumns];
};

// Sums of the columns of a few lines, which stay in registers from the first row of a bag to the
// last. Rows are taken one at a time, each prefetched in one go: two or four at a time are slower.
// Unrolled early, or the compiler keeps a copy of the sums in memory.
template <class T, int kLines>
class HeldSums {
 public:
  static constexpr int kRows = 1;

  void start(const float* y, int64_t) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) sum[v] = y ? load(y + v * kWidth) : set1(0);
  }
  void finish(float* y, int64_t) const {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) store(y + v * kWidth, sum[v]);
  }
  void add(const Group<T, kRows>& g, int64_t) {
    if (g.count == 0) return;
    for (int i = 0; i < kLines; ++i) prefetch_l2(g.far[0] + i * kCacheLine);
    const Vec w = set1(g.weight[0]);
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) sum[v] = fma(w, load(g.row[0] + v * kWidth), sum[v]);
  }

 private:
  static constexpr int kVectors = kLines * kCacheLine / static_cast<int>(sizeof(T)) / kWidth;
  Vec sum[kVectors];
};

// As many lines as HeldSums may have: int8's sums of 256 columns fill half of the registers of
// AVX-512. Wider elements gain nothing.
template <class T>
constexpr int kMostHeld = kSecondCache && sizeof(T) == 1 ? 4 : 0;

// y[0 … columns) (+)= sum over the entries of weight * row from `column` on, in the order of the
// entries.
template <class S, class T>
inline void sum_with(const Table<T>& table, const BagEntries& p, int64_t column, int64_t columns,
                     float* y, bool accumulate, const Coming& next) {
  // The stores at the end would wait for one line after another where y is not in the caches.
  if constexpr (kSecondCache)
    for (int64_t c = 0; c < columns; c += kCacheLine / static_cast<int64_t>(sizeof(float)))
      prefetch_l2(y + c);
  const int64_t distance =
      prefetch_distance(columns * static_cast<int64_t>(sizeof(T)), kAheadBytes, kMostAhead);
  S sums;
  sums.start(accumulate ? y : nullptr, columns);
  Group<T, S::kRows> g;
  for (int64_t l = p.begin; l < p.end;) {
    l = take(table, p, next, column, distance, l, g);
    sums.add(g, columns);
  }
  sums.finish(y, columns);
}

// The same, with the sums that suit the columns.
template <class T, int kLines = kMostHeld<T>>
inline void block_sum(const Table<T>& table, const BagEntries& p, int64_t column, int64_t columns,
                      float* y, bool accumulate, const Coming& next) {
  if constexpr (kLines == 0)
    sum_with<Sums<T>>(table, p, column, columns, y, accumulate, next);
  else if (columns == kLines * Sums<T>::kStep)
    sum_with<HeldSums<T, kLines>>(table, p, column, columns, y, accumulate, next);
  else
    block_sum<T, kLines - 1>(table, p, column, columns, y, accumulate, next);
}

// y[c0 … c1) (+)= sum over the entries of weight * row.
template <class T>
inline void bag_sum(const Table<T>& table, const BagEntries& p, int64_t c0, int64_t c1, float* y,
                    bool accumulate, const Coming& next) {
  for (int64_t c = c0; c < c1; c += Sums<T>::kColumns) {
    const int64_t columns = c1 - c < Sums<T>::kColumns ? c1 - c : Sums<T>::kColumns;
    const Coming then =
        c + columns < c1 ? coming(table, p.indices + p.begin, p.end - p.begin, c + columns) : next;
    block_sum(table, p, c, columns, y + c, accumulate, then);
  }
}

// out[l] = scale * <x, row of entry l>; 0 at a padding entry. A product has one order whichever
// rows it is taken with.
template <class T>
inline void bag_dots(const Table<T>& table, const BagEntries& p, const float* x, float* out,
                     const Coming& next) {
  constexpr int kStep = Sums<T>::kStep;
  const int64_t V = table.width;
  const int64_t distance =
      prefetch_distance(V * static_cast<int64_t>(sizeof(T)), kAheadBytes, kMostAhead);
  Group<T, kDotRows> g;
  for (int64_t l = p.begin, done = p.begin; l < p.end;) {
    l = take(table, p, next, 0, distance, l, g);
    for (; done < l; ++done) out[done] = 0;
    if (g.count == 0) break;
    for (int r = g.count; r < kDotRows; ++r) {
      g.row[r] = g.row[0];
      g.far[r] = g.far[0];
      if constexpr (kTwice<T>) g.near[r] = g.near[0];
    }
    Vec even[kDotRows] = {}, odd[kDotRows] = {};
    int64_t c = 0;
    for (; c + kStep <= V; c += kStep) {
      prefetch_lines<T, kDotRows>(g.far, g.near, c);
      for (int64_t v = c; v < c + kStep; v += kWidth) {
        const Vec a = load(x + v);
        for (int r = 0; r < kDotRows; ++r) {
          Vec& s = (v - c) / kWidth % 2 ? odd[r] : even[r];
          s = fma(a, load(g.row[r] + v), s);
        }
      }
    }
    if (c < V) prefetch_lines<T, kDotRows>(g.far, g.near, V - 1);
    for (; c + kWidth <= V; c += kWidth)
      for (int r = 0; r < kDotRows; ++r) even[r] = fma(load(x + c), load(g.row[r] + c), even[r]);
    for (int r = 0; r < g.count; ++r) {
      float sum = reduce_add(even[r] + odd[r]);
      for (int64_t i = c; i < V; ++i) sum += x[i] * load_one(g.row[r] + i);
      out[g.entry[r]] = p.scales ? sum * g.weight[r] : sum;
    }
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
