// Weighted sums of random rows of a table. Included inside an instruction-set pass, like simd.h.
//
//   y[c] (+)= sum over the entries of a bag of weight * row[c], in the order of the entries
//
// Columns are cut into blocks. The sums of a block stay in L1d and are loaded and stored once for
// each group of rows (BlockSums), or stay in registers over the whole bag (RegisterSums).

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

// The sums of a few cache lines of columns, in registers from the first row of a bag to the last.
// Rows are read one at a time, each prefetched in one go: two or four at a time are slower.
// Unrolled early, or the compiler keeps a copy of the sums in memory.
template <class T, int kLines>
class RegisterSums {
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
  void add(const RowGroup<T, kRows>& g, int64_t) {
    if (g.count == 0) return;
    for (int i = 0; i < kLines; ++i) prefetch_l2(g.ahead[0] + i * kCacheLine);
    const Vec w = set1(g.weight[0]);
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) sum[v] = fma(w, load(g.row[0] + v * kWidth), sum[v]);
  }

 private:
  static constexpr int kVectors = kLines * kCacheLine / static_cast<int>(sizeof(T)) / kWidth;
  Vec sum[kVectors];
};

// Cache lines of a row whose sums RegisterSums may keep: for int8 the sums of 256 columns fill half
// of the registers of AVX-512. Against the gather ceiling of one process, int8, 256 columns: 0.73
// of it in place of 0.68 with BlockSums. Wider elements gain nothing.
template <class T>
constexpr int kMaxRegisterLines = kPrefetchIntoL2 && sizeof(T) == 1 ? 4 : 0;

// y[0 … columns) (+)= sum over the entries of weight * row from `column` on, with sums of type S.
template <class S, class T>
inline void sum_with(const Table<T>& table, const BagEntries& p, int64_t column, int64_t columns,
                     float* y, bool accumulate, const NextRows& next) {
  // Else the stores at the end wait for one cache line of y after another.
  if constexpr (kPrefetchIntoL2)
    for (int64_t c = 0; c < columns; c += kCacheLine / static_cast<int64_t>(sizeof(float)))
      prefetch_l2(y + c);
  const int64_t distance = bag_prefetch_distance(columns * static_cast<int64_t>(sizeof(T)));
  S sums;
  sums.start(accumulate ? y : nullptr, columns);
  RowGroup<T, S::kRows> g;
  for (int64_t l = p.begin; l < p.end;) {
    l = next_group(table, p, next, column, distance, l, g);
    sums.add(g, columns);
  }
  sums.finish(y, columns);
}

// The same, in registers where the columns fit them.
template <class T, int kLines = kMaxRegisterLines<T>>
inline void block_sum(const Table<T>& table, const BagEntries& p, int64_t column, int64_t columns,
                      float* y, bool accumulate, const NextRows& next) {
  if constexpr (kLines == 0)
    sum_with<BlockSums<T>>(table, p, column, columns, y, accumulate, next);
  else if (columns == kLines * BlockSums<T>::kStep)
    sum_with<RegisterSums<T, kLines>>(table, p, column, columns, y, accumulate, next);
  else
    block_sum<T, kLines - 1>(table, p, column, columns, y, accumulate, next);
}

// y[c0 … c1) (+)= sum over the entries of weight * row.
template <class T>
inline void bag_sum(const Table<T>& table, const BagEntries& p, int64_t c0, int64_t c1, float* y,
                    bool accumulate, const NextRows& next) {
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
