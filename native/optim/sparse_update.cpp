#include "optim/sparse_update.h"

#include "cpu/hot_rows.h"
#include "optim/adagrad.h"
#include "optim/adamw.h"
#include "optim/rowwise_adagrad.h"
#include "optim/sgd.h"

#ifdef ML_ISA
#include "cpu/prefetch.h"
#include "cpu/row_gradient.h"
#include "cpu/rows.h"

namespace ml::cpu::ML_ISA {
namespace {

constexpr int64_t kAheadBytes = 16384;  // of rows and states, prefetched before they are updated
// rows; for the single numbers of the row-wise rule always as many
constexpr int64_t kMostAhead = 32;
constexpr int64_t kMostSoon = 4;  // rows ahead, prefetched once more
// of dy: if it has no more, it lies in the second cache by itself
constexpr int64_t kNearBytes = 1 << 18;
constexpr int kChains = 4;  // sums of squares side by side
// sums between them are exact enough in float32
constexpr double kLeastSquares = 0x1p-100, kMostSquares = 0x1p127;

template <class Rule>
constexpr bool kRowwise = std::is_same_v<Rule, RowwiseAdagradRule>;

// A row with its states; x is the exact row: the table's own, or its master, of which a 16-bit
// table holds the rounded values.
template <class T>
struct RowOf {
  float *x, *s1, *s2;
  T* rounded;
};

// Where the rows of a table lie. Held as a local, its pointers are not read again behind each
// store.
template <class T, class Rule>
class Rows {
 public:
  explicit Rows(const SparseUpdate& a)
      : V_(a.table.dim(1)),
        x_(a.master ? a.master.as<float>() : a.table.as<float>()),
        s1_(a.state1 ? a.state1.as<float>() : nullptr),
        s2_(a.state2 ? a.state2.as<float>() : nullptr),
        rounded_(a.table.as<T>()) {}

  [[gnu::always_inline]] RowOf<T> at(int64_t u) const {
    RowOf<T> row{x_ + u * V_, nullptr, nullptr, nullptr};
    if constexpr (kRowwise<Rule>) row.s1 = s1_ + u;
    if constexpr (Rule::kStates >= 1) row.s1 = s1_ + u * V_;
    if constexpr (Rule::kStates >= 2) row.s2 = s2_ + u * V_;
    if constexpr (!std::is_same_v<T, float>) row.rounded = rounded_ + u * V_;
    return row;
  }

 private:
  int64_t V_;
  float *x_, *s1_, *s2_;
  T* rounded_;
};

// Elements c … c + n of a row.
template <class T, class Rule, class Root>
inline void update_vector(const Rule& rule, const RowOf<T>& row, Vec g, int64_t c, int n,
                          Root root) {
  Vec x = load_n(row.x + c, n), first{}, second{};
  if constexpr (Rule::kStates >= 1) first = load_n(row.s1 + c, n);
  if constexpr (Rule::kStates >= 2) second = load_n(row.s2 + c, n);
  if constexpr (kRowwise<Rule>) {
    rule(x, g, root);
  } else {
    rule(x, first, second, g, root);
  }
  store_n(row.x + c, x, n);
  if constexpr (Rule::kStates >= 1) store_n(row.s1 + c, first, n);
  if constexpr (Rule::kStates >= 2) store_n(row.s2 + c, second, n);
  if constexpr (!std::is_same_v<T, float>) {
    if (n == kWidth) {
      store(row.rounded + c, x);
    } else {
      for (int i = 0; i < n; ++i) row.rounded[c + i] = from_float<T>(x[i]);
    }
  }
}

// What is updated later. Its lines are prefetched while this row's are updated, since a read that
// was not prefetched waits behind all that were: `far` into the second cache, `soon` into the
// first, and into the second the rows of dy of the first and the last entry of `soon`, since most
// rows have one or two. nullptr: all of dy is near. Beside the lines of states the last one does
// not pay.
template <class T>
struct Coming {
  RowOf<T> far, soon;
  const float *first_dy, *last_dy;
};

// f of the line with element c of a row, and of each of its states
template <class T, class Rule, class F>
[[gnu::always_inline]] inline void prefetch_row_line(const RowOf<T>& row, int64_t c, F f) {
  f(row.x + c);
  if constexpr (Rule::kStates >= 1) f(row.s1 + c);
  if constexpr (Rule::kStates >= 2) f(row.s2 + c);
  if constexpr (!std::is_same_v<T, float>)
    if (c % (2 * kStep) == 0) f(row.rounded + c);
}

// Line by line; with each, the same line of what comes is prefetched.
template <class T, class Rule, class Root>
inline void update_elements(const Rule& rule, const RowOf<T>& row, const Coming<T>& coming,
                            const Term& g, int64_t V, Root root) {
  const Vec w = set1(g.weight);
  const auto prefetch = [&](int64_t c) __attribute__((always_inline)) {
    prefetch_row_line<T, Rule>(
        coming.far, c, [](const void* p) __attribute__((always_inline)) { prefetch_l2(p); });
    prefetch_row_line<T, Rule>(
        coming.soon, c, [](const void* p) __attribute__((always_inline)) { prefetch_line(p); });
    if (coming.first_dy) {
      prefetch_l2(coming.first_dy + c);
      if constexpr (Rule::kStates == 0) prefetch_l2(coming.last_dy + c);
    }
  };
  int64_t c = 0;
  for (; c + kStep <= V; c += kStep) {
    prefetch(c);
    for (int v = 0; v < kStep; v += kWidth)
      update_vector(rule, row, w * load(g.dy + c + v), c + v, kWidth, root);
  }
  if (c < V) prefetch(V - 1);
  for (; c < V; c += kWidth) {
    const int n = V - c < kWidth ? static_cast<int>(V - c) : kWidth;
    update_vector(rule, row, w * load_n(g.dy + c, n), c, n, root);
  }
}

// The mean of x^2. It neither overflows nor vanishes where the gradient does not: where a sum in
// float32 might, it is made once more in float64.
inline double mean_square(const float* x, int64_t V) {
  const double in_short = dot<kChains>(x, x, V);
  if (in_short >= kLeastSquares && in_short <= kMostSquares)
    return in_short / static_cast<double>(V);
  double exact[kChains] = {};
  for (int64_t c = 0; c < V; ++c) exact[c % kChains] += static_cast<double>(x[c]) * x[c];
  return ((exact[0] + exact[1]) + (exact[2] + exact[3])) / static_cast<double>(V);
}

void mean_squares(const float* const* dy, int64_t begin, int64_t end, int64_t V, double* means) {
  for (int64_t b = begin; b < end; ++b) means[b] = mean_square(dy[b], V);
}

// Adds the mean square of weight * dy to the row's own number; returns the divisor of the row-wise
// rule. mean: that of dy.
template <class T>
inline float advance(const RowwiseAdagradRule& rule, const RowOf<T>& row, float weight,
                     double mean) {
  *row.s1 += static_cast<float>(mean * weight * weight);
  return __builtin_sqrtf(*row.s1) + rule.eps;
}

// What a row's update needs of its gradient: the term that is its sum, and the divisor of the
// row-wise rule.
struct Gradient {
  Term sum;
  float root;
};

// Sums the gradient of a row of several entries into g; returns its mean square, where the rule is
// row-wise.
template <class Rule>
[[gnu::noinline]] double sum_row(const HotRows& gradients, int64_t r, int64_t V, float* g) {
  gradients.gradient(r, g);
  return kRowwise<Rule> ? mean_square(g, V) : 0;
}

// A row with one entry, most rows of a large table, takes its gradient where it lies; others are
// summed into g. own: a copy of their entries that no store can reach.
template <class T, class Rule>
[[gnu::always_inline]] inline Gradient gradient_of(const Rule& rule, const HotRows& gradients,
                                                   const RowEntries& own, const double* means,
                                                   const RowOf<T>& row, int64_t r, int64_t V,
                                                   float* g) {
  Gradient result{{1.0f, g}, 0};
  double mean = 0;
  if (own.one_entry(r)) {
    const Entry entry = own.first_entry(r);
    result.sum = {entry.weight, own.dy_of(entry)};
    if constexpr (kRowwise<Rule>) mean = means[entry.bag];
  } else {
    mean = sum_row<Rule>(gradients, r, V, g);
  }
  if constexpr (kRowwise<Rule>) result.root = advance(rule, row, result.sum.weight, mean);
  return result;
}

template <class T, class Rule>
inline void update_row(const Rule& rule, const RowOf<T>& row, const Coming<T>& coming,
                       const Gradient& g, int64_t V) {
  if constexpr (kRowwise<Rule>) {
    update_elements(rule, row, coming, g.sum, V, g.root);
  } else {
    update_elements(rule, row, coming, g.sum, V, [](Vec v) { return sqrt(v); });
  }
}

// Touched rows begin … end. A row's gradient is known before the row ahead of it is updated, so
// that its divisor is not waited for. g: room for two rows; means: mean squares of the rows of dy,
// for the row-wise rule.
template <class T, class Rule>
void touched_rows(const SparseUpdate& a, const HotRows& gradients, const double* means,
                  int64_t begin, int64_t end, float* g) {
  const Rule rule(a.hyper, *a.step.as<int32_t>());
  const Rows<T, Rule> table(a);
  const RowEntries own = gradients.entries();
  const int32_t* rows = a.rows.as<int32_t>();
  const int64_t last = *a.count.as<int32_t>() - 1, V = a.table.dim(1), room = gradients.room();
  const int64_t ahead = rows_ahead(V * static_cast<int64_t>((1 + Rule::kStates) * sizeof(float)),
                                   kAheadBytes, kMostAhead);
  // later than `far`, also of wide rows
  const int64_t soon = ahead / 2 < kMostSoon ? ahead / 2 : kMostSoon;
  const bool near_dy = Rule::kStates == 0 && own.dy_bytes() <= kNearBytes;
  const auto to_last = [&](int64_t r)
                           __attribute__((always_inline)) { return r < last ? r : last; };
  const auto row_at = [&](int64_t r)
                          __attribute__((always_inline)) { return table.at(rows[to_last(r)]); };
  const auto gradient_at = [&](const RowOf<T>& row, int64_t r) __attribute__((always_inline)) {
    return gradient_of<T>(rule, gradients, own, means, row, r, V, g + (r - begin) % 2 * room);
  };
  for (int64_t r = begin; r < end && r < begin + ahead; ++r)
    for (int64_t c = 0; c < V; c += kStep)
      prefetch_row_line<T, Rule>(
          row_at(r), c, [](const void* p) __attribute__((always_inline)) { prefetch_l2(p); });
  for (int64_t r = begin; kRowwise<Rule> && r < end && r < begin + kMostAhead; ++r)
    prefetch_l2(row_at(r).s1);
  RowOf<T> row = row_at(begin);
  Gradient gradient = gradient_at(row, begin);
  for (int64_t r = begin; r < end; ++r) {
    const int64_t at = to_last(r + soon);
    const Coming<T> coming{row_at(r + ahead), table.at(rows[at]),
                           near_dy ? nullptr : own.dy_of(own.first_entry(at)),
                           own.dy_of(own.last_entry(at))};
    if constexpr (kRowwise<Rule>) {
      prefetch_l2(row_at(r + kMostAhead).s1);
      prefetch_line(coming.soon.s1);
    }
    const RowOf<T> next = row_at(r + 1);
    const Gradient later = r + 1 < end ? gradient_at(next, r + 1) : gradient;
    update_row(rule, row, coming, gradient, V);
    row = next;
    gradient = later;
  }
}

// Rows begin … end of the table, touched or not; `first` is the first touched row from `begin` on.
template <class T, class Rule>
void every_row(const SparseUpdate& a, const HotRows& gradients, const double* means, int64_t begin,
               int64_t end, int64_t first, float* g) {
  const Rule rule(a.hyper, *a.step.as<int32_t>());
  const Rows<T, Rule> table(a);
  const RowEntries own = gradients.entries();
  const int32_t* rows = a.rows.as<int32_t>();
  const int64_t R = *a.count.as<int32_t>(), V = a.table.dim(1);
  float* none = g + gradients.room();
  std::memset(none, 0, static_cast<size_t>(V) * sizeof(float));
  for (int64_t u = begin; u < end; ++u) {
    const RowOf<T> row = table.at(u);
    Gradient gradient{{1.0f, none}, 0};
    if (first < R && rows[first] == u) {
      gradient = gradient_of<T>(rule, gradients, own, means, row, first++, V, g);
    } else if constexpr (kRowwise<Rule>) {
      gradient.root = advance(rule, row, 1.0f, 0);
    }
    update_row(rule, row, {row, row, nullptr, nullptr}, gradient, V);
  }
}

template <class Rule>
void update_rows(const SparseUpdate& a, const HotRows& gradients, const double* means,
                 int64_t begin, int64_t end, int64_t first, float* g) {
  dispatch_float(a.table.dtype, [&](auto t) {
    using T = decltype(t);
    if (a.every_row) return every_row<T, Rule>(a, gradients, means, begin, end, first, g);
    touched_rows<T, Rule>(a, gradients, means, begin, end, g);
  });
}

void update_piece(const SparseUpdate& a, const HotRows& gradients, const double* means,
                  int64_t begin, int64_t end, int64_t first, float* g) {
  switch (a.rule) {
    case Rule::sgd: return update_rows<SgdRule>(a, gradients, means, begin, end, first, g);
    case Rule::adagrad: return update_rows<AdagradRule>(a, gradients, means, begin, end, first, g);
    case Rule::rowwise_adagrad:
      return update_rows<RowwiseAdagradRule>(a, gradients, means, begin, end, first, g);
    case Rule::adamw: return update_rows<AdamWRule>(a, gradients, means, begin, end, first, g);
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include <algorithm>

#include "ops/sparse_grad_cpu.h"

#define ML_ISA_SOURCE "optim/sparse_update.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {
namespace {

constexpr int64_t kRows = 256;  // of one piece

// The mean square of every row of dy of all reads. A touched row that one entry reads, most rows of
// a large table, then needs no pass over its gradient.
const double* means_of(Context& ctx, const RowEntries& entries) {
  double* means = ctx.scratch<double>(entries.bags);
  ctx.parallel_for(entries.bags, kRows / 8, [&](int64_t begin, int64_t end, int) {
    ML_DISPATCH(mean_squares)(entries.dy, begin, end, entries.width, means);
  });
  return means;
}

}  // namespace

void sparse_update(Context& ctx, const SparseUpdate& a) {
  const int64_t R = *a.count.as<int32_t>(), V = a.table.dim(1);
  const int32_t* rows = a.rows.as<int32_t>();
  const HotRows gradients(
      ctx, gather_entries(ctx, a.reads, a.order.as<int32_t>(), a.starts.as<int32_t>(), R, V), R,
      ML_DISPATCH(sum_entries));
  const double* means =
      a.rule == Rule::rowwise_adagrad ? means_of(ctx, gradients.entries()) : nullptr;
  const int64_t room = 2 * gradients.room();
  float* buffers = ctx.scratch<float>(ctx.threads() * room);
  const auto update = ML_DISPATCH(update_piece);
  ctx.parallel_for(
      a.every_row ? a.table.dim(0) : R, kRows, [&](int64_t begin, int64_t end, int worker) {
        const int64_t first =
            a.every_row ? std::lower_bound(rows, rows + R, static_cast<int32_t>(begin)) - rows
                        : begin;
        update(a, gradients, means, begin, end, first, buffers + worker * room);
      });
}

}  // namespace ml::cpu
#endif
