// Random rows of a table: their weighted sum, and their products with one vector. Included inside an instruction-set pass, like simd.h.
//
// A bag is summed in column blocks that stay in registers. Rows are prefetched a fixed number of bytes ahead, one line for each
// line that is read, across the borders of column blocks and bags: the memory never waits for a bag to end.

#include "cpu/prefetch.h"

namespace ml::cpu::ML_ISA {
namespace {

#if ML_ISA_LEVEL == 3
constexpr int kMostVectors = 16;  // accumulators of a column block
#else
constexpr int kMostVectors = 8;
#endif

// Places of one bag within the flat lists of indices and weights, and how far prefetching may look.
struct Places {
  const int32_t* indices;
  const float* weights;  // nullptr: ones
  const float* scales;   // by row, or nullptr
  int64_t begin, end;    // this bag
  int64_t last;          // of all bags that follow in memory order
};

template <class T>
struct Table {
  const T* rows;
  int64_t width;
  const T* row(int64_t index) const { return rows + index * width; }
};

// y[c .. c + vectors * kWidth) of one bag. `next_column`: where the walk goes on after this block (0: the next bag).
template <class T, int vectors>
inline void bag_block(const Table<T>& table, const Places& p, int64_t c, int64_t next_column, float* y, bool accumulate) {
  constexpr int64_t kBlockBytes = vectors * kWidth * static_cast<int64_t>(sizeof(T));
  constexpr int64_t kLines = (kBlockBytes + kLine - 1) / kLine;
  constexpr int64_t kAheadBytes = sizeof(T) == 4 ? 16384 : 8192;
  constexpr int64_t kAhead = kAheadBytes / kBlockBytes > 32 ? 32 : (kAheadBytes / kBlockBytes < 2 ? 2 : kAheadBytes / kBlockBytes);
  Vec acc[vectors];
  for (int v = 0; v < vectors; ++v) acc[v] = accumulate ? load(y + c + v * kWidth) : Vec{};
  for (int64_t l = p.begin; l < p.end; ++l) {
    int64_t ahead = l + kAhead;
    int64_t column = c;
    if (ahead >= p.end) {
      column = next_column;
      if (next_column != 0) ahead = p.begin + (ahead - p.end);
    }
    const int32_t coming = ahead < p.last ? p.indices[ahead] : -1;
    if (coming >= 0) {
      const char* line = reinterpret_cast<const char*>(table.row(coming) + column);
      for (int64_t i = 0; i < kLines; ++i) prefetch_line(line + i * kLine);
    }
    const int32_t index = p.indices[l];
    if (index < 0) continue;
    float weight = p.weights ? p.weights[l] : 1.0f;
    if (p.scales) weight *= p.scales[index];
    const Vec w = set1(weight);
    const T* row = table.row(index) + c;
    for (int v = 0; v < vectors; ++v) acc[v] = fma(w, load(row + v * kWidth), acc[v]);
  }
  for (int v = 0; v < vectors; ++v) store(y + c + v * kWidth, acc[v]);
}

// The odd columns c … c1 at the end of a row.
template <class T>
inline void bag_tail(const Table<T>& table, const Places& p, int64_t c, int64_t c1, float* y, bool accumulate) {
  for (; c < c1; ++c) {
    float sum = accumulate ? y[c] : 0;
    for (int64_t l = p.begin; l < p.end; ++l) {
      const int32_t index = p.indices[l];
      if (index < 0) continue;
      float weight = p.weights ? p.weights[l] : 1.0f;
      if (p.scales) weight *= p.scales[index];
      sum = fma(set1(weight), set1(load_one(table.row(index) + c)), set1(sum))[0];
    }
    y[c] = sum;
  }
}

// y[c0 … c1) (+)= sum over the places of weight * row
template <class T>
inline void bag_sum(const Table<T>& table, const Places& p, int64_t c0, int64_t c1, float* y, bool accumulate) {
  int64_t c = c0;
  while (c1 - c >= kWidth) {
    const int64_t left = (c1 - c) / kWidth;
    const auto next = [&](int64_t vectors) { return c + vectors * kWidth < c1 ? c + vectors * kWidth : int64_t{0}; };
    if (left >= kMostVectors) {
      bag_block<T, kMostVectors>(table, p, c, next(kMostVectors), y, accumulate);
      c += kMostVectors * kWidth;
    } else if (left >= 8) {
      bag_block<T, 8>(table, p, c, next(8), y, accumulate);
      c += 8 * kWidth;
    } else if (left >= 4) {
      bag_block<T, 4>(table, p, c, next(4), y, accumulate);
      c += 4 * kWidth;
    } else if (left >= 2) {
      bag_block<T, 2>(table, p, c, next(2), y, accumulate);
      c += 2 * kWidth;
    } else {
      bag_block<T, 1>(table, p, c, next(1), y, accumulate);
      c += kWidth;
    }
  }
  bag_tail(table, p, c, c1, y, accumulate);
}

// out[l] = scale * <x, row of place l>; 0 at an empty place
template <class T>
inline void bag_dots(const Table<T>& table, const Places& p, const float* x, float* out) {
  const int64_t V = table.width;
  const int64_t row_bytes = V * static_cast<int64_t>(sizeof(T));
  const int64_t wanted = 16384 / (row_bytes > 0 ? row_bytes : 1);
  const int64_t kAhead = wanted > 32 ? 32 : (wanted < 2 ? 2 : wanted);
  for (int64_t l = p.begin; l < p.end; ++l) {
    const int32_t coming = l + kAhead < p.last ? p.indices[l + kAhead] : -1;
    const char* line = reinterpret_cast<const char*>(table.row(coming < 0 ? 0 : coming));
    const int32_t index = p.indices[l];
    if (index < 0) {
      out[l] = 0;
      for (int64_t i = 0; coming >= 0 && i < row_bytes; i += kLine) prefetch_line(line + i);
      continue;
    }
    const T* row = table.row(index);
    Vec s0{}, s1{}, s2{}, s3{};
    int64_t c = 0;
    for (; c + 4 * kWidth <= V; c += 4 * kWidth) {
      if (coming >= 0)
        for (int64_t i = 0; i < 4 * kWidth * static_cast<int64_t>(sizeof(T)); i += kLine)
          prefetch_line(line + c * static_cast<int64_t>(sizeof(T)) + i);
      s0 = fma(load(x + c), load(row + c), s0);
      s1 = fma(load(x + c + kWidth), load(row + c + kWidth), s1);
      s2 = fma(load(x + c + 2 * kWidth), load(row + c + 2 * kWidth), s2);
      s3 = fma(load(x + c + 3 * kWidth), load(row + c + 3 * kWidth), s3);
    }
    if (coming >= 0)
      for (int64_t i = c * static_cast<int64_t>(sizeof(T)); i < row_bytes; i += kLine) prefetch_line(line + i);
    for (; c + kWidth <= V; c += kWidth) s0 = fma(load(x + c), load(row + c), s0);
    float sum = reduce_add((s0 + s1) + (s2 + s3));
    for (; c < V; ++c) sum += x[c] * load_one(row + c);
    out[l] = p.scales ? sum * p.scales[index] : sum;
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
