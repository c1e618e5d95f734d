// Dot products of one vector with random rows of a table. Included inside an instruction-set
// pass, like simd.h.

#if defined(ML_CPU_GATHER_DOT_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_CPU_GATHER_DOT_H
#undef ML_CPU_GATHER_DOT_H
#else
#define ML_CPU_GATHER_DOT_H
#endif

#include "cpu/gather.h"

namespace ml::cpu::ML_ISA {
namespace {

constexpr int kDotRows = 4;  // of a group: each has two sums in registers

// out[l] = scale * <x, row of entry l>; 0 at a padding entry. A product has one order of its sum,
// whichever rows are in its group, and whatever type they have.
template <class T>
inline void bag_dots(const Table<T>& table, const BagEntries& p, const float* x, float* out,
                     const NextRows& next) {
  constexpr int kLine = kCacheLine / static_cast<int>(sizeof(T));  // elements of a cache line
  constexpr int kStep = std::max(kLine, 2 * kWidth);
  const int64_t V = table.width;
  const int64_t distance = bag_prefetch_distance(V * static_cast<int64_t>(sizeof(T)));
  RowGroup<T, kDotRows> g;
  for (int64_t l = p.begin, done = p.begin; l < p.end;) {
    l = next_group(table, p, next, 0, distance, l, g);
    for (; done < l; ++done) out[done] = 0;
    if (g.count == 0) break;
    for (int r = g.count; r < kDotRows; ++r) {
      g.row[r] = g.row[0];
      g.ahead[r] = g.ahead[0];
      if constexpr (kPrefetchTwice<T>) g.half_ahead[r] = g.half_ahead[0];
    }
    Vec even[kDotRows] = {}, odd[kDotRows] = {};
    int64_t c = 0;
    for (; c + kStep <= V; c += kStep) {
      for (int64_t v = c; v < c + kStep; v += kLine)
        prefetch_column<T, kDotRows>(g.ahead, g.half_ahead, v);
      for (int64_t v = c; v < c + kStep; v += kWidth) {
        const Vec a = load(x + v);
        for (int r = 0; r < kDotRows; ++r) {
          Vec& s = (v - c) / kWidth % 2 ? odd[r] : even[r];
          s = fma(a, load(g.row[r] + v), s);
        }
      }
    }
    for (int64_t v = c; v < V; v += kLine)
      prefetch_column<T, kDotRows>(g.ahead, g.half_ahead, std::min<int64_t>(v + kLine, V) - 1);
    for (bool is_odd = false; c + kWidth <= V; c += kWidth, is_odd = !is_odd)
      for (int r = 0; r < kDotRows; ++r) {
        Vec& s = is_odd ? odd[r] : even[r];
        s = fma(load(x + c), load(g.row[r] + c), s);
      }
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
