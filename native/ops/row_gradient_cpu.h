// The gradient of one touched row: the sum over its entries in their order. Included inside an
// instruction-set pass, like cpu/rows.h.

#if defined(ML_OPS_ROW_GRADIENT_CPU_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_OPS_ROW_GRADIENT_CPU_H
#undef ML_OPS_ROW_GRADIENT_CPU_H
#else
#define ML_OPS_ROW_GRADIENT_CPU_H
#endif

#include "cpu/prefetch.h"
#include "cpu/rows.h"
#include "ops/row_entries_cpu.h"

namespace ml::cpu::ML_ISA {
namespace {

// Added in one pass over g, which stays in L1d.
constexpr int kEntriesPerPass = 8;

// weight * dy
struct Term {
  float weight;
  const float* dy;
};

inline Term term_of(const RowEntries& entries, int64_t i) {
  return {entries.entries[i].weight, entries.dy_of(entries.entries[i])};
}

// g += weight * dy for the terms, in their order; `first`: g is not read.
template <int count, bool first>
inline void add_terms(const Term* t, int64_t V, float* g) {
  Vec w[count];
  const float* dy[count];
  for (int i = 0; i < count; ++i) {
    w[i] = set1(t[i].weight);
    dy[i] = t[i].dy;
  }
  int64_t c = 0;
  for (; c + kFloatsPerLine <= V; c += kFloatsPerLine) {
    for (int64_t v = c; v < c + kFloatsPerLine; v += kWidth) {
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

// g[0 … width) = sum over entries begin … end of weight * dy, in their order. Nothing is
// prefetched: dy is resident in L2 or L3, and the loads of eight rows overlap.
[[maybe_unused]] inline void sum_entries(const RowEntries& entries, int64_t begin, int64_t end,
                                         float* g) {
  Term terms[kEntriesPerPass];
  for (int64_t i = begin; i < end; i += kEntriesPerPass) {
    const int count = end - i < kEntriesPerPass ? static_cast<int>(end - i) : kEntriesPerPass;
    for (int k = 0; k < count; ++k) terms[k] = term_of(entries, i + k);
    i == begin ? add_group<true>(count, terms, entries.width, g)
               : add_group<false>(count, terms, entries.width, g);
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
