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

constexpr int64_t kAhead = 8;  // rows prefetched before they are updated

// Where one row of the table lies, with its states; x is the exact row: the table's own, or its master.
struct RowOf {
  float *x, *s1, *s2;
};

inline RowOf row_of(const SparseUpdate& a, int64_t u) {
  const int64_t V = a.table.dim(1);
  float* exact = a.master ? a.master.as<float>() : a.table.as<float>();
  const bool per_row = a.rule == Rule::rowwise_adagrad;
  return {exact + u * V, a.state1 ? a.state1.as<float>() + (per_row ? u : u * V) : nullptr,
          a.state2 ? a.state2.as<float>() + u * V : nullptr};
}

[[gnu::always_inline]] inline void prefetch_row(const SparseUpdate& a, int64_t u) {
  const int64_t bytes = a.table.dim(1) * 4;
  const RowOf row = row_of(a, u);
  prefetch_to_write(row.x, bytes);
  if (row.s1) prefetch_to_write(row.s1, a.rule == Rule::rowwise_adagrad ? 4 : bytes);
  if (row.s2) prefetch_to_write(row.s2, bytes);
}

template <class Rule>
inline void update_elements(const Rule& rule, const RowOf& row, const float* g, int64_t V) {
  const auto root = [](Vec v) { return sqrt(v); };
  for_vectors(V, [&](int64_t i, int n) {
    Vec x = load_n(row.x + i, n), first = row.s1 ? load_n(row.s1 + i, n) : Vec{}, second = row.s2 ? load_n(row.s2 + i, n) : Vec{};
    rule(x, first, second, load_n(g + i, n), root);
    store_n(row.x + i, x, n);
    if (row.s1) store_n(row.s1 + i, first, n);
    if (row.s2) store_n(row.s2 + i, second, n);
  });
}

inline void update_elements(const RowwiseAdagradRule& rule, const RowOf& row, const float* g, int64_t V) {
  *row.s1 += dot(g, g, V) / static_cast<float>(V);
  const float root = __builtin_sqrtf(*row.s1) + rule.eps;
  for_vectors(V, [&](int64_t i, int n) {
    Vec x = load_n(row.x + i, n);
    rule(x, load_n(g + i, n), root);
    store_n(row.x + i, x, n);
  });
}

// A 16-bit table holds its master rounded.
inline void round_row(const SparseUpdate& a, int64_t u, const float* exact) {
  const int64_t V = a.table.dim(1);
  dispatch_float(a.table.dtype, [&](auto t) {
    using T = decltype(t);
    T* rounded = a.table.as<T>() + u * V;
    for (int64_t i = 0; i < V; ++i) rounded[i] = from_float<T>(exact[i]);
  });
}

template <class Rule>
inline void update_with(const Rule& rule, const SparseUpdate& a, int64_t u, const float* g) {
  const RowOf row = row_of(a, u);
  update_elements(rule, row, g, a.table.dim(1));
  if (a.master) round_row(a, u, row.x);
}

// Touched rows begin … end of R. g: room for one row.
template <class Rule>
void touched_rows(const SparseUpdate& a, const HotRows& gradients, int64_t begin, int64_t end, float* g) {
  const Rule rule(a.hyper, *a.step.as<int32_t>());
  const int32_t* rows = a.rows.as<int32_t>();
  const int64_t R = *a.count.as<int32_t>();
  for (int64_t r = begin; r < end; ++r) {
    if (r + kAhead < R) prefetch_row(a, rows[r + kAhead]);
    gradients.gradient(r, g);
    update_with(rule, a, rows[r], g);
  }
}

// Rows begin … end of the table, touched or not; `first` is the first touched row from `begin` on.
template <class Rule>
void every_row(const SparseUpdate& a, const HotRows& gradients, int64_t begin, int64_t end, int64_t first, float* g) {
  const Rule rule(a.hyper, *a.step.as<int32_t>());
  const int32_t* rows = a.rows.as<int32_t>();
  const int64_t R = *a.count.as<int32_t>(), V = a.table.dim(1);
  for (int64_t u = begin; u < end; ++u) {
    if (first < R && rows[first] == u) {
      gradients.gradient(first++, g);
    } else {
      for (int64_t i = 0; i < V; ++i) g[i] = 0;
    }
    update_with(rule, a, u, g);
  }
}

template <class Rule>
void update_rows(const SparseUpdate& a, const HotRows& gradients, int64_t begin, int64_t end, int64_t first, float* g) {
  if (a.every_row) return every_row<Rule>(a, gradients, begin, end, first, g);
  touched_rows<Rule>(a, gradients, begin, end, g);
}

void update_piece(const SparseUpdate& a, const HotRows& gradients, int64_t begin, int64_t end, int64_t first, float* g) {
  switch (a.rule) {
    case Rule::sgd: return update_rows<SgdRule>(a, gradients, begin, end, first, g);
    case Rule::adagrad: return update_rows<AdagradRule>(a, gradients, begin, end, first, g);
    case Rule::rowwise_adagrad: return update_rows<RowwiseAdagradRule>(a, gradients, begin, end, first, g);
    case Rule::adamw: return update_rows<AdamWRule>(a, gradients, begin, end, first, g);
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
constexpr int64_t kRows = 64;  // of one piece
}

void sparse_update(Context& ctx, const SparseUpdate& a) {
  const int64_t R = *a.count.as<int32_t>(), V = a.table.dim(1);
  const int32_t* rows = a.rows.as<int32_t>();
  const ReadPlaces places = lay_out(ctx, a.reads, V);
  const HotRows gradients(ctx, places, a.starts.as<int32_t>(), a.order.as<int32_t>(), R, ML_DISPATCH(sum_places));
  const int64_t room = V + 16;
  float* buffers = ctx.scratch<float>(ctx.threads() * room);
  const auto update = ML_DISPATCH(update_piece);
  ctx.parallel_for(a.every_row ? a.table.dim(0) : R, kRows, [&](int64_t begin, int64_t end, int worker) {
    const int64_t first = a.every_row ? std::lower_bound(rows, rows + R, static_cast<int32_t>(begin)) - rows : begin;
    update(a, gradients, begin, end, first, buffers + worker * room);
  });
}

}  // namespace ml::cpu
#endif
