#include "optim/adagrad.h"
#include "optim/adamw.h"
#include "optim/rowwise_adagrad.h"
#include "optim/sgd.h"

#ifdef ML_ISA
#include "cpu/row_gradient.h"
#include "cpu/rows.h"

namespace ml::cpu::ML_ISA {
namespace {

constexpr int64_t kLine = 64;

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

void prefetch_row(const SparseUpdate& a, int64_t u) {
  const int64_t bytes = a.table.dim(1) * 4;
  const RowOf row = row_of(a, u);
  const auto lines = [](const float* p, int64_t size) {
    for (int64_t i = 0; i < size; i += kLine) __builtin_prefetch(reinterpret_cast<const char*>(p) + i, 1, 3);
  };
  lines(row.x, bytes);
  if (row.s1) lines(row.s1, a.rule == Rule::rowwise_adagrad ? 4 : bytes);
  if (row.s2) lines(row.s2, bytes);
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

inline void update_rowwise(const RowwiseAdagradRule& rule, const RowOf& row, const float* g, int64_t V) {
  *row.s1 += dot(g, g, V) / static_cast<float>(V);
  const float root = __builtin_sqrtf(*row.s1) + rule.eps;
  for_vectors(V, [&](int64_t i, int n) {
    Vec x = load_n(row.x + i, n);
    rule(x, load_n(g + i, n), root);
    store_n(row.x + i, x, n);
  });
}

// Row u of the table from its gradient g [V].
void update_row(const SparseUpdate& a, int64_t u, const float* g) {
  const int64_t V = a.table.dim(1);
  const int32_t step = *a.step.as<int32_t>();
  const RowOf row = row_of(a, u);
  switch (a.rule) {
    case Rule::sgd: update_elements(SgdRule(a.hyper, step), row, g, V); break;
    case Rule::adagrad: update_elements(AdagradRule(a.hyper, step), row, g, V); break;
    case Rule::adamw: update_elements(AdamWRule(a.hyper, step), row, g, V); break;
    case Rule::rowwise_adagrad: update_rowwise(RowwiseAdagradRule(a.hyper, step), row, g, V); break;
  }
  if (!a.master) return;
  dispatch_float(a.table.dtype, [&](auto t) {
    using T = decltype(t);
    T* rounded = a.table.as<T>() + u * V;
    for (int64_t i = 0; i < V; ++i) rounded[i] = from_float<T>(row.x[i]);
  });
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include <algorithm>
#include <cstring>

#include "cpu/hot_rows.h"

#define ML_ISA_SOURCE "optim/sparse_update.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {
namespace {
constexpr int64_t kRows = 64;   // of one piece
constexpr int64_t kAhead = 8;  // rows prefetched before they are updated
}  // namespace

void sparse_update(Context& ctx, const SparseUpdate& a) {
  const int64_t R = *a.count.as<int32_t>(), V = a.table.dim(1);
  const int32_t* rows = a.rows.as<int32_t>();
  const ReadPlaces places = lay_out(ctx, a.reads, V);
  const HotRows gradients(ctx, places, a.starts.as<int32_t>(), a.order.as<int32_t>(), R, ML_DISPATCH(sum_places));
  float* buffers = ctx.scratch<float>(ctx.threads() * (V + 16));
  const auto update = ML_DISPATCH(update_row);
  const auto prefetch = ML_DISPATCH(prefetch_row);
  if (!a.every_row) {
    ctx.parallel_for(R, kRows, [&](int64_t begin, int64_t end, int worker) {
      float* g = buffers + worker * (V + 16);
      for (int64_t r = begin; r < end; ++r) {
        if (r + kAhead < R) prefetch(a, rows[r + kAhead]);
        gradients.gradient(r, g);
        update(a, rows[r], g);
      }
    });
    return;
  }
  ctx.parallel_for(a.table.dim(0), kRows, [&](int64_t begin, int64_t end, int worker) {
    float* g = buffers + worker * (V + 16);
    int64_t r = std::lower_bound(rows, rows + R, static_cast<int32_t>(begin)) - rows;
    for (int64_t u = begin; u < end; ++u) {
      if (r < R && rows[r] == u) {
        gradients.gradient(r++, g);
      } else {
        std::memset(g, 0, static_cast<size_t>(V) * sizeof(float));
      }
      update(a, u, g);
    }
  });
}

}  // namespace ml::cpu
#endif
