// The gradient of one touched row: an ordered sum over its entries. Included inside an
// instruction-set pass, like simd.h.

#if defined(ML_CPU_ROW_GRADIENT_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_CPU_ROW_GRADIENT_H
#undef ML_CPU_ROW_GRADIENT_H
#else
#define ML_CPU_ROW_GRADIENT_H
#endif

#include "cpu/prefetch.h"
#include "cpu/read_places.h"
#include "cpu/rows.h"

namespace ml::cpu::ML_ISA {
namespace {

constexpr int kStep = kCacheLine / static_cast<int>(sizeof(float));  // elements of a line
constexpr int kPlaces = 8;  // taken at a time: the sums lie in the first cache

// weight * dy
struct Term {
  float weight;
  const float* dy;
};

inline Term term_of(const RowEntries& entries, int64_t i) {
  return {entries.entries[i].weight, entries.dy_of(entries.entries[i])};
}

// g += weight * dy for the terms one after another; `first`: g is not read.
template <int count, bool first>
inline void add_terms(const Term* t, int64_t V, float* g) {
  Vec w[count];
  const float* dy[count];
  for (int i = 0; i < count; ++i) {
    w[i] = set1(t[i].weight);
    dy[i] = t[i].dy;
  }
  int64_t c = 0;
  for (; c + kStep <= V; c += kStep) {
    for (int64_t v = c; v < c + kStep; v += kWidth) {
      Vec sum = first ? w[0] * load(dy[0] + v) : load(g + v);
      for (int i = first; i < count; ++i) sum = fma(w[i], load(dy[i] + v), sum);
      store(g + v, sum);
    }
  }
  for (; c < V; c += kWidth) {
    const int n = V - c < kWidth ? static_cast<int>(V - c) : kWidth;
    Vec sum = first ? w[0] * load_n(dy[0] + c, n) : load_n(g + c, n);
    for (int i = first; i < count; ++i) sum = fma(w[i], load_n(dy[i] + c, n), sum);
    store_n(g + c, sum, n);
  }
}

template <bool first>
inline void add_group(int count, const Term* t, int64_t V, float* g) {
  switch (count) {
    case 1: return add_terms<1, first>(t, V, g);
    case 2: return add_terms<2, first>(t, V, g);
    case 3: return add_terms<3, first>(t, V, g);
    case 4: return add_terms<4, first>(t, V, g);
    case 5: return add_terms<5, first>(t, V, g);
    case 6: return add_terms<6, first>(t, V, g);
    case 7: return add_terms<7, first>(t, V, g);
    default: return add_terms<8, first>(t, V, g);
  }
}

// g[0 … width) = sum over entries begin … end of weight * dy, one after another. Nothing is
// prefetched: dy lies in the second or the third cache, and the loads of several rows at a time
// wait together.
[[maybe_unused]] inline void sum_entries(const RowEntries& entries, int64_t begin, int64_t end,
                                         float* g) {
  Term now[kPlaces];
  for (int64_t i = begin; i < end; i += kPlaces) {
    const int count = end - i < kPlaces ? static_cast<int>(end - i) : kPlaces;
    for (int k = 0; k < count; ++k) now[k] = term_of(entries, i + k);
    i == begin ? add_group<true>(count, now, entries.width, g)
               : add_group<false>(count, now, entries.width, g);
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
