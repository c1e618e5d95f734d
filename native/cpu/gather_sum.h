// Weighted sums of random rows of a table. Included inside an instruction-set pass, like simd.h.
//
//   y[c] (+)= sum over the entries of a bag of weight * row[c], in the order of the entries
//
// The sums of narrow rows stay in registers over the whole bag (register_sum). Columns of others
// are cut into blocks, whose sums stay in L1d and are loaded and stored once for each group of rows
// (BlockSums).

#if defined(ML_CPU_GATHER_SUM_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_CPU_GATHER_SUM_H
#undef ML_CPU_GATHER_SUM_H
#else
#define ML_CPU_GATHER_SUM_H
#endif

#include "cpu/gather.h"

namespace ml::cpu::ML_ISA {
namespace {

// The sums of a column block. A pair of vectors of bfloat16 is kept as its even and its odd
// elements, which are a shift and a mask away from the row; all else is in the order of columns.
template <class T>
class BlockSums {
 public:
  static constexpr int64_t kColumns =
      kPrefetchIntoL2 ? kSumBlockColumnsAvx512 : kSumBlockBytes / static_cast<int64_t>(sizeof(T));
  static constexpr int kStep =
      kCacheLine / static_cast<int>(sizeof(T));  // elements of a cache line
  // rows of a group; fewer of int8, whose conversion needs registers
  static constexpr int kRows = sizeof(T) > 1 ? 8 : kPrefetchIntoL2 ? 2 : 4;
  static constexpr bool kPairs = std::is_same_v<T, BFloat16>;

  // From y, or from zero if y is nullptr.
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
  void add(const RowGroup<T, kRows>& g, int64_t columns) {
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
  void add_rows(const RowGroup<T, kRows>& g, int first, int64_t columns) {
    Vec w[rows];
    const T* row[rows];
    const char *ahead[rows], *half_ahead[rows];
    for (int r = 0; r < rows; ++r) {
      w[r] = set1(g.weight[first + r]);
      row[r] = g.row[first + r];
      ahead[r] = g.ahead[first + r];
      if constexpr (kPrefetchTwice<T>) half_ahead[r] = g.half_ahead[first + r];
    }
    int64_t c = 0;
    for (; c + kStep <= columns; c += kStep) {
      prefetch_column<T, rows>(ahead, half_ahead, c);
      if constexpr (kPairs) {
        for (int64_t v = c; v < c + kStep; v += 2 * kWidth) {
          Vec even = load(sum + v), odd = load(sum + v + kWidth);
          for (int r = 0; r < rows; ++r) {
            const IVec pair = load_bits(row[r] + v);
            even = fma(w[r], as_float(pair << 16), even);
            odd = fma(w[r], as_float(pair & static_cast<int32_t>(0xffff0000)), odd);
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
    prefetch_column<T, rows>(ahead, half_ahead, columns - 1);
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

// y[0 … columns) (+)= sum over the entries of weight * row from `column` on.
template <class T>
inline void block_sum(const Table<T>& table, const BagEntries& p, int64_t column, int64_t columns,
                      float* y, bool accumulate, const NextRows& next) {
  // Else the stores at the end wait for one cache line of y after another.
  if constexpr (kPrefetchIntoL2)
    for (int64_t c = 0; c < columns; c += kCacheLine / static_cast<int64_t>(sizeof(float)))
      prefetch_l2(y + c);
  const int64_t distance = bag_prefetch_distance(columns * static_cast<int64_t>(sizeof(T)));
  BlockSums<T> sums;
  sums.start(accumulate ? y : nullptr, columns);
  RowGroup<T, BlockSums<T>::kRows> g;
  for (int64_t l = p.begin; l < p.end;) {
    l = next_group(table, p, next, column, distance, l, g);
    sums.add(g, columns);
  }
  sums.finish(y, columns);
}

// Rows of at most so many cache lines keep their sums in registers.
constexpr int kMaxRegisterLines = 8;

// y = sum over the entries of weight * row, of whole rows of kLines cache lines, with the sums in
// registers from the first row of the bag to the last. Rows are read one at a time, each prefetched
// in one go; little else is done for a row, which may take less time than a RowGroup does. Unrolled
// early, or the compiler keeps a copy of the sums in memory. `last`: the entries end there, those
// of the bags behind this one included.
template <class T, int kLines, bool kIntoL1d>
inline void register_sum(const T* rows, const BagEntries& p, int64_t last, float* y) {
  constexpr int64_t kRowBytes = kLines * kCacheLine;
  constexpr int kVectors = kRowBytes / static_cast<int>(sizeof(T)) / kWidth;
  constexpr int64_t kDistance = kIntoL1d ? kRegisterRowsIntoL1d : kRegisterRowsIntoL2;
  const char* const base = reinterpret_cast<const char*>(rows);
  const int32_t* const indices = p.indices;
  const float *const weights = p.weights, *const scales = p.scales;
  Vec sum[kVectors];
#pragma GCC unroll 16
  for (int v = 0; v < kVectors; ++v) sum[v] = set1(0);
  const auto add = [&](int64_t l) __attribute__((always_inline)) {
    const int64_t index = indices[l];
    if (index < 0) return;
    const T* row = reinterpret_cast<const T*>(base + index * kRowBytes);
    const Vec w = set1(sizeof(T) == 1 ? weights[l] * scales[index] : weights[l]);
    if constexpr (std::is_same_v<T, BFloat16>) {  // as in BlockSums
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; v += 2) {
        const IVec pair = load_bits(row + v * kWidth);
        sum[v] = fma(w, as_float(pair << 16), sum[v]);
        sum[v + 1] = fma(w, as_float(pair & static_cast<int32_t>(0xffff0000)), sum[v + 1]);
      }
    } else {
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) sum[v] = fma(w, load(row + v * kWidth), sum[v]);
    }
  };
  const int64_t prefetched = last - kDistance < p.end ? last - kDistance : p.end;
  int64_t l = p.begin;
  for (; l < prefetched; ++l) {
    const int64_t ahead = indices[l + kDistance] < 0 ? 0 : indices[l + kDistance];
    if (sizeof(T) == 1) prefetch_l2(scales + ahead);
    for (int i = 0; i < kLines; ++i) {
      const char* line = base + ahead * kRowBytes + i * kCacheLine;
      kIntoL1d ? prefetch_l1d(line) : prefetch_l2(line);
    }
    add(l);
  }
  for (; l < p.end; ++l) add(l);
#pragma GCC unroll 16
  for (int v = 0; v < kVectors; ++v) {
    if constexpr (!std::is_same_v<T, BFloat16>)
      store(y + v * kWidth, sum[v]);
    else if (v % 2 == 0)
      interleave(y + v * kWidth, sum[v], sum[v + 1]);
  }
}

// The same for rows of 1, 2, 4 or 8 lines; false, and nothing is written, for others.
template <class T, int kLines = kMaxRegisterLines>
inline bool register_sum(const Table<T>& table, const BagEntries& p, int64_t last, float* y) {
  if constexpr (!kPrefetchIntoL2 || kLines == 0) {
    return false;
  } else {
    if (table.width * static_cast<int64_t>(sizeof(T)) != kLines * kCacheLine)
      return register_sum<T, kLines / 2>(table, p, last, y);
    // weights are scaled where the elements are int8, and only there
    if (!p.weights || (p.scales != nullptr) != (sizeof(T) == 1)) return false;
    narrow_rows_into_l1d() ? register_sum<T, kLines, true>(table.rows, p, last, y)
                           : register_sum<T, kLines, false>(table.rows, p, last, y);
    return true;
  }
}

// y[c0 … c1) (+)= sum over the entries of weight * row.
template <class T>
inline void bag_sum(const Table<T>& table, const BagEntries& p, int64_t c0, int64_t c1, float* y,
                    bool accumulate, const NextRows& next) {
  // Where the entries of the next bags follow those of this one, they are of the same table.
  const bool follow = next.indices == p.indices + p.end;
  if (!accumulate && c1 - c0 == table.width &&
      register_sum(table, p, p.end + (follow ? next.count : 0), y))
    return;
  for (int64_t c = c0; c < c1; c += BlockSums<T>::kColumns) {
    const int64_t columns = c1 - c < BlockSums<T>::kColumns ? c1 - c : BlockSums<T>::kColumns;
    const NextRows then = c + columns < c1
                              ? next_rows(table, p.indices + p.begin, p.end - p.begin, c + columns)
                              : next;
    block_sum(table, p, c, columns, y + c, accumulate, then);
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
