// The update of one row of a table with its states. Included inside an instruction-set pass.

#if defined(ML_OPTIM_ROW_UPDATE_CPU_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_OPTIM_ROW_UPDATE_CPU_H
#undef ML_OPTIM_ROW_UPDATE_CPU_H
#else
#define ML_OPTIM_ROW_UPDATE_CPU_H
#endif

#include "cpu/prefetch.h"
#include "cpu/rows.h"
#include "ops/row_gradient_cpu.h"
#include "optim/rowwise_adagrad.h"

namespace ml::cpu::ML_ISA {
namespace {

template <class Rule>
constexpr bool kRowwise = std::is_same_v<Rule, RowwiseAdagradRule>;

// A row with its states; x is the exact row: the table's own, or its master, of which a 16-bit
// table holds the rounded values. state1: for the row-wise rule the row's one number.
template <class T>
struct TableRow {
  float *x, *state1, *state2;
  T* rounded;
};

// The rows of a table. Used as a local, so that its pointers are not read again behind each store.
template <class T, class Rule>
class TableRows {
 public:
  explicit TableRows(const SparseUpdate& a)
      : V_(a.table.dim(1)),
        x_(a.master ? a.master.as<float>() : a.table.as<float>()),
        state1_(a.state1 ? a.state1.as<float>() : nullptr),
        state2_(a.state2 ? a.state2.as<float>() : nullptr),
        rounded_(a.table.as<T>()) {}

  [[gnu::always_inline]] TableRow<T> at(int64_t u) const {
    TableRow<T> row{.x = x_ + u * V_, .state1 = nullptr, .state2 = nullptr, .rounded = nullptr};
    if constexpr (kRowwise<Rule>) row.state1 = state1_ + u;
    if constexpr (Rule::kStates >= 1) row.state1 = state1_ + u * V_;
    if constexpr (Rule::kStates >= 2) row.state2 = state2_ + u * V_;
    if constexpr (!std::is_same_v<T, float>) row.rounded = rounded_ + u * V_;
    return row;
  }

 private:
  int64_t V_;
  float *x_, *state1_, *state2_;
  T* rounded_;
};

// Elements c … c + n of a row.
template <class T, class Rule, class Root>
inline void update_vector(const Rule& rule, const TableRow<T>& row, Vec g, int64_t c, int n,
                          Root root) {
  Vec x = load_n(row.x + c, n), first{}, second{};
  if constexpr (Rule::kStates >= 1) first = load_n(row.state1 + c, n);
  if constexpr (Rule::kStates >= 2) second = load_n(row.state2 + c, n);
  if constexpr (kRowwise<Rule>) {
    rule(x, g, root);
  } else {
    rule(x, first, second, g, root);
  }
  store_n(row.x + c, x, n);
  if constexpr (Rule::kStates >= 1) store_n(row.state1 + c, first, n);
  if constexpr (Rule::kStates >= 2) store_n(row.state2 + c, second, n);
  if constexpr (!std::is_same_v<T, float>) {
    if (n == kWidth) {
      store(row.rounded + c, x);
    } else {
      for (int i = 0; i < n; ++i) row.rounded[c + i] = from_float<T>(x[i]);
    }
  }
}

// What later updates read, prefetched line by line while this row is updated: a read that was not
// prefetched waits behind all that were. The rows of dy go into L2: those of the first and the last
// entry of l1_row, since most rows have one or two; nullptr where dy is resident in L2. With states
// to prefetch as well, the last one does not pay.
template <class T>
struct PrefetchTargets {
  TableRow<T> l2_row, l1_row;
  const float *first_dy, *last_dy;
};

// prefetch(p) for the line with element c of a row, and of each of its states
template <class T, class Rule, class F>
[[gnu::always_inline]] inline void prefetch_row_line(const TableRow<T>& row, int64_t c,
                                                     F prefetch) {
  prefetch(row.x + c);
  if constexpr (Rule::kStates >= 1) prefetch(row.state1 + c);
  if constexpr (Rule::kStates >= 2) prefetch(row.state2 + c);
  if constexpr (!std::is_same_v<T, float>)
    if (c % (2 * kFloatsPerLine) == 0) prefetch(row.rounded + c);
}

template <class T, class Rule>
[[gnu::always_inline]] inline void prefetch_row_line_l2(const TableRow<T>& row, int64_t c) {
  prefetch_row_line<T, Rule>(row, c,
                             [](const void* p) __attribute__((always_inline)) { prefetch_l2(p); });
}

// Updates a row with its gradient g, whole cache lines first. root: the rule's square root, or the
// divisor of the row-wise rule.
template <class T, class Rule, class Root>
inline void update_elements(const Rule& rule, const TableRow<T>& row,
                            const PrefetchTargets<T>& targets, const Term& g, int64_t V,
                            Root root) {
  const Vec w = set1(g.weight);
  const auto prefetch = [&](int64_t c) __attribute__((always_inline)) {
    prefetch_row_line_l2<T, Rule>(targets.l2_row, c);
    prefetch_row_line<T, Rule>(
        targets.l1_row, c, [](const void* p) __attribute__((always_inline)) { prefetch_l1d(p); });
    if (targets.first_dy) {
      prefetch_l2(targets.first_dy + c);
      if constexpr (Rule::kStates == 0) prefetch_l2(targets.last_dy + c);
    }
  };
  int64_t c = 0;
  for (; c + kFloatsPerLine <= V; c += kFloatsPerLine) {
    prefetch(c);
    for (int v = 0; v < kFloatsPerLine; v += kWidth)
      update_vector(rule, row, w * load(g.dy + c + v), c + v, kWidth, root);
  }
  if (c < V) prefetch(V - 1);
  for (; c < V; c += kWidth) {
    const int n = V - c < kWidth ? static_cast<int>(V - c) : kWidth;
    update_vector(rule, row, w * load_n(g.dy + c, n), c, n, root);
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
