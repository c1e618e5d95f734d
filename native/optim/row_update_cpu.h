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

// kWidth floats that are split into high and low halves (core/split_float.h).
[[maybe_unused]] inline Vec load_split(const BFloat16* high, const int16_t* low) {
#if ML_ISA_LEVEL == 3
  const __m256i l = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(low));
  return as_float(as_int(load(high)) + (IVec)_mm512_cvtepi16_epi32(l));
#elif ML_ISA_LEVEL == 2
  const __m128i l = _mm_loadu_si128(reinterpret_cast<const __m128i*>(low));
  return as_float(as_int(load(high)) + (IVec)_mm256_cvtepi16_epi32(l));
#else
  Vec r;
  for (int i = 0; i < kWidth; ++i) r[i] = join(high[i], low[i]);
  return r;
#endif
}
[[maybe_unused]] inline void store_split(BFloat16* high, int16_t* low, Vec v) {
#if ML_ISA_LEVEL >= 2
  const IVec u = as_int(v);
  const IVec h = (v != v ? (u >> 16) | 0x40 : (u + 0x8000) >> 16) & 0xffff, l = u & 0xffff;
#if ML_ISA_LEVEL == 3
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(high), _mm512_cvtepi32_epi16((__m512i)h));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(low), _mm512_cvtepi32_epi16((__m512i)l));
#else
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32((__m256i)h, (__m256i)l), 0xd8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(high), _mm256_castsi256_si128(words));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(low), _mm256_extracti128_si256(words, 1));
#endif
#else
  for (int i = 0; i < kWidth; ++i) {
    high[i] = high_half(v[i]);
    low[i] = low_half(v[i]);
  }
#endif
}

// The exact values of a row (optim/exact_rows.h).
template <class T>
struct ExactRow;

template <>
struct ExactRow<float> {
  float* x;
  ExactRow(const SparseUpdate& a) : x(a.table.as<float>()) {}
  [[gnu::always_inline]] ExactRow(const ExactRow& first, int64_t at) : x(first.x + at) {}
  Vec load(int64_t c, int n) const { return load_n(x + c, n); }
  void store(int64_t c, Vec v, int n) const { store_n(x + c, v, n); }
  template <class F>
  [[gnu::always_inline]] void prefetch_line(int64_t c, F prefetch) const {
    prefetch(x + c);
  }
};

template <>
struct ExactRow<Half> {
  float* x;
  Half* rounded;
  ExactRow(const SparseUpdate& a) : x(a.exact.as<float>()), rounded(a.table.as<Half>()) {}
  [[gnu::always_inline]] ExactRow(const ExactRow& first, int64_t at)
      : x(first.x + at), rounded(first.rounded + at) {}
  Vec load(int64_t c, int n) const { return load_n(x + c, n); }
  void store(int64_t c, Vec v, int n) const {
    store_n(x + c, v, n);
    if (n == kWidth) return ML_ISA::store(rounded + c, v);
    for (int i = 0; i < n; ++i) rounded[c + i] = to_half(v[i]);
  }
  template <class F>
  [[gnu::always_inline]] void prefetch_line(int64_t c, F prefetch) const {
    prefetch(x + c);
    if (c % (2 * kFloatsPerLine) == 0) prefetch(rounded + c);
  }
};

template <>
struct ExactRow<BFloat16> {
  BFloat16* high;
  int16_t* low;
  ExactRow(const SparseUpdate& a) : high(a.table.as<BFloat16>()), low(a.exact.as<int16_t>()) {}
  [[gnu::always_inline]] ExactRow(const ExactRow& first, int64_t at)
      : high(first.high + at), low(first.low + at) {}
  Vec load(int64_t c, int n) const {
    if (n == kWidth) return load_split(high + c, low + c);
    Vec v{};
    for (int i = 0; i < n; ++i) v[i] = join(high[c + i], low[c + i]);
    return v;
  }
  void store(int64_t c, Vec v, int n) const {
    if (n == kWidth) return store_split(high + c, low + c, v);
    for (int i = 0; i < n; ++i) {
      high[c + i] = high_half(v[i]);
      low[c + i] = low_half(v[i]);
    }
  }
  template <class F>
  [[gnu::always_inline]] void prefetch_line(int64_t c, F prefetch) const {
    if (c % (2 * kFloatsPerLine) != 0) return;
    prefetch(high + c);
    prefetch(low + c);
  }
};

// A row with its states. state1: for the row-wise rule the row's one number.
template <class T>
struct TableRow {
  ExactRow<T> x;
  float *state1, *state2;
};

// The rows of a table. Used as a local, so that its pointers are not read again behind each store.
template <class T, class Rule>
class TableRows {
 public:
  explicit TableRows(const SparseUpdate& a)
      : V_(a.table.dim(1)),
        x_(a),
        state1_(a.state1 ? a.state1.as<float>() : nullptr),
        state2_(a.state2 ? a.state2.as<float>() : nullptr) {}

  [[gnu::always_inline]] TableRow<T> at(int64_t u) const {
    TableRow<T> row{.x = {x_, u * V_}, .state1 = nullptr, .state2 = nullptr};
    if constexpr (kRowwise<Rule>) row.state1 = state1_ + u;
    if constexpr (Rule::kStates >= 1) row.state1 = state1_ + u * V_;
    if constexpr (Rule::kStates >= 2) row.state2 = state2_ + u * V_;
    return row;
  }

 private:
  int64_t V_;
  ExactRow<T> x_;
  float *state1_, *state2_;
};

// Elements c … c + n of a row.
template <class T, class Rule, class Root>
inline void update_vector(const Rule& rule, const TableRow<T>& row, Vec g, int64_t c, int n,
                          Root root) {
  Vec x = row.x.load(c, n), first{}, second{};
  if constexpr (Rule::kStates >= 1) first = load_n(row.state1 + c, n);
  if constexpr (Rule::kStates >= 2) second = load_n(row.state2 + c, n);
  if constexpr (kRowwise<Rule>) {
    rule(x, g, root);
  } else {
    rule(x, first, second, g, root);
  }
  row.x.store(c, x, n);
  if constexpr (Rule::kStates >= 1) store_n(row.state1 + c, first, n);
  if constexpr (Rule::kStates >= 2) store_n(row.state2 + c, second, n);
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
  row.x.prefetch_line(c, prefetch);
  if constexpr (Rule::kStates >= 1) prefetch(row.state1 + c);
  if constexpr (Rule::kStates >= 2) prefetch(row.state2 + c);
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
