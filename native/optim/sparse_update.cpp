#include "optim/sparse_update.h"

#include "cpu/tuning.h"
#include "ops/hot_rows_cpu.h"
#include "optim/adagrad.h"
#include "optim/adamw.h"
#include "optim/rowwise_adagrad.h"
#include "optim/sgd.h"

#ifdef ML_ISA
#include "optim/row_update_cpu.h"
#include "optim/update_gradient_cpu.h"

namespace ml::cpu::ML_ISA {
namespace {

template <class Rule>
inline Rule rule_of(const SparseUpdate& a) {
  return Rule(with_rate(a.hyper, a.rate ? a.rate.as<float>() : nullptr),
              next_step(*a.step.as<int32_t>()));
}

template <class T, class Rule>
inline void update_row(const Rule& rule, const TableRow<T>& row, const PrefetchTargets<T>& targets,
                       const UpdateGradient& g, int64_t V) {
  if constexpr (kRowwise<Rule>) {
    update_elements(rule, row, targets, g.sum, V, g.root);
  } else {
    update_elements(rule, row, targets, g.sum, V, [](Vec v) { return sqrt(v); });
  }
}

// Touched rows begin … end. A row's gradient is known before the row ahead of it is updated, so
// that its divisor is not waited for. g: buffers of two rows; means: mean squares of the rows of
// dy, for the row-wise rule.
template <class T, class Rule>
void update_touched_rows(const SparseUpdate& a, const HotRows& gradients, const double* means,
                         int64_t begin, int64_t end, float* g) {
  const Rule rule = rule_of<Rule>(a);
  const TableRows<T, Rule> table(a);
  const RowEntries entries = gradients.entries();
  const int32_t* rows = a.rows.as<int32_t>();
  const int64_t last = *a.count.as<int32_t>() - 1, V = a.table.dim(1),
                stride = gradients.buffer_stride();
  const int64_t l2_distance = prefetch_distance(
      V * static_cast<int64_t>((1 + Rule::kStates) * sizeof(float)), kUpdateL2Bytes, kUpdateL2Rows);
  // Smaller than the distance into L2, also of wide rows.
  const int64_t l1_distance = l2_distance / 2 < kUpdateL1Rows ? l2_distance / 2 : kUpdateL1Rows;
  const bool dy_in_l2 = Rule::kStates == 0 && entries.dy_bytes() <= kL2ResidentDyBytes;
  const auto to_last = [&](int64_t r)
                           __attribute__((always_inline)) { return r < last ? r : last; };
  const auto row_at = [&](int64_t r)
                          __attribute__((always_inline)) { return table.at(rows[to_last(r)]); };
  const auto gradient_at = [&](const TableRow<T>& row, int64_t r) __attribute__((always_inline)) {
    return gradient_of<T>(rule, gradients, entries, means, row, r, V, g + (r - begin) % 2 * stride);
  };
  for (int64_t r = begin; r < end && r < begin + l2_distance; ++r)
    for (int64_t c = 0; c < V; c += kFloatsPerLine) prefetch_row_line_l2<T, Rule>(row_at(r), c);
  for (int64_t r = begin; kRowwise<Rule> && r < end && r < begin + kUpdateL2Rows; ++r)
    prefetch_l2(row_at(r).state1);
  TableRow<T> row = row_at(begin);
  UpdateGradient gradient = gradient_at(row, begin);
  for (int64_t r = begin; r < end; ++r) {
    const int64_t l1_index = to_last(r + l1_distance);
    const PrefetchTargets<T> targets{
        .l2_row = row_at(r + l2_distance),
        .l1_row = table.at(rows[l1_index]),
        .first_dy = dy_in_l2 ? nullptr : entries.dy_of(entries.first_entry(l1_index)),
        .last_dy = entries.dy_of(entries.last_entry(l1_index))};
    if constexpr (kRowwise<Rule>) {
      prefetch_l2(row_at(r + kUpdateL2Rows).state1);
      prefetch_l1d(targets.l1_row.state1);
    }
    const TableRow<T> next_row = row_at(r + 1);
    const UpdateGradient next_gradient = r + 1 < end ? gradient_at(next_row, r + 1) : gradient;
    update_row(rule, row, targets, gradient, V);
    row = next_row;
    gradient = next_gradient;
  }
}

// Rows begin … end of the table, touched or not; `first` is the first touched row from `begin` on.
template <class T, class Rule>
void update_every_row(const SparseUpdate& a, const HotRows& gradients, const double* means,
                      int64_t begin, int64_t end, int64_t first, float* g) {
  const Rule rule = rule_of<Rule>(a);
  const TableRows<T, Rule> table(a);
  const RowEntries entries = gradients.entries();
  const int32_t* rows = a.rows.as<int32_t>();
  const int64_t R = *a.count.as<int32_t>(), V = a.table.dim(1);
  float* zeros = g + gradients.buffer_stride();
  std::memset(zeros, 0, static_cast<size_t>(V) * sizeof(float));
  for (int64_t u = begin; u < end; ++u) {
    const TableRow<T> row = table.at(u);
    UpdateGradient gradient{.sum = {.weight = 1.0f, .dy = zeros}, .root = 0};
    if (first < R && rows[first] == u) {
      gradient = gradient_of<T>(rule, gradients, entries, means, row, first++, V, g);
    } else if constexpr (kRowwise<Rule>) {
      gradient.root = add_mean_square(rule, row, 1.0f, 0);
    }
    update_row(rule, row, {.l2_row = row, .l1_row = row, .first_dy = nullptr, .last_dy = nullptr},
               gradient, V);
  }
}

template <class Rule>
void update_with(const SparseUpdate& a, const HotRows& gradients, const double* means,
                 int64_t begin, int64_t end, int64_t first, float* g) {
  dispatch_float(a.table.dtype, [&](auto t) {
    using T = decltype(t);
    if (a.every_row) return update_every_row<T, Rule>(a, gradients, means, begin, end, first, g);
    update_touched_rows<T, Rule>(a, gradients, means, begin, end, g);
  });
}

void update_rows(const SparseUpdate& a, const HotRows& gradients, const double* means,
                 int64_t begin, int64_t end, int64_t first, float* g) {
  switch (a.rule) {
    case Rule::sgd: return update_with<SgdRule>(a, gradients, means, begin, end, first, g);
    case Rule::adagrad: return update_with<AdagradRule>(a, gradients, means, begin, end, first, g);
    case Rule::rowwise_adagrad:
      return update_with<RowwiseAdagradRule>(a, gradients, means, begin, end, first, g);
    case Rule::adamw: return update_with<AdamWRule>(a, gradients, means, begin, end, first, g);
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include <algorithm>

#define ML_ISA_SOURCE "optim/sparse_update.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {
namespace {

// The mean square of every row of dy of all reads. A touched row with one entry, most rows of a
// large table, then needs no pass over its gradient.
const double* means_of(KernelContext& ctx, const RowEntries& entries) {
  double* means = ctx.scratch<double>(entries.bags);
  const auto squares = ML_DISPATCH(mean_squares);
  ctx.parallel_for(entries.bags, kMeanSquareGrain, [&](int64_t begin, int64_t end, int) {
    squares(entries.dy, begin, end, entries.width, means);
  });
  return means;
}

}  // namespace

void sparse_update(KernelContext& ctx, const SparseUpdate& a) {
  const int64_t R = *a.count.as<int32_t>(), V = a.table.dim(1);
  const int32_t* rows = a.rows.as<int32_t>();
  const HotRows gradients(
      ctx, gather_entries(ctx, a.reads, a.order.as<int32_t>(), a.starts.as<int32_t>(), R, V), R,
      ML_DISPATCH(sum_entries));
  const double* means =
      a.rule == Rule::rowwise_adagrad ? means_of(ctx, gradients.entries()) : nullptr;
  const int64_t stride = 2 * gradients.buffer_stride();
  float* buffers = ctx.scratch<float>(ctx.threads() * stride);
  const auto update = ML_DISPATCH(update_rows);
  const int64_t count = a.every_row ? a.table.dim(0) : R;
  ctx.parallel_for(count, kSparseUpdateGrain, [&](int64_t begin, int64_t end, int worker) {
    const int64_t first =
        a.every_row ? std::lower_bound(rows, rows + R, static_cast<int32_t>(begin)) - rows : begin;
    update(a, gradients, means, begin, end, first, buffers + worker * stride);
  });
}

}  // namespace ml::cpu
#endif
