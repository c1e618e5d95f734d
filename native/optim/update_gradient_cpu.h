// What the update of a row needs of its gradient. Included inside an instruction-set pass.

#if defined(ML_OPTIM_UPDATE_GRADIENT_CPU_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_OPTIM_UPDATE_GRADIENT_CPU_H
#undef ML_OPTIM_UPDATE_GRADIENT_CPU_H
#else
#define ML_OPTIM_UPDATE_GRADIENT_CPU_H
#endif

#include "cpu/rows.h"
#include "ops/hot_rows_cpu.h"
#include "ops/row_gradient_cpu.h"
#include "optim/row_update_cpu.h"

namespace ml::cpu::ML_ISA {
namespace {

// The term that is the row's gradient, and the divisor of the row-wise rule.
struct UpdateGradient {
  Term sum;
  float root;
};

// The mean of x^2. It neither overflows nor vanishes where the gradient does not: a float32 sum
// outside the range in which it is exact enough is made once more in float64.
inline double mean_square(const float* x, int64_t V) {
  constexpr int kChains = 4;  // sums side by side, where one would be waited for
  constexpr double kMinExact = 0x1p-100, kMaxExact = 0x1p127;
  const double single = dot<kChains>(x, x, V);
  if (single >= kMinExact && single <= kMaxExact) return single / static_cast<double>(V);
  double exact[kChains] = {};
  for (int64_t c = 0; c < V; ++c) exact[c % kChains] += static_cast<double>(x[c]) * x[c];
  return ((exact[0] + exact[1]) + (exact[2] + exact[3])) / static_cast<double>(V);
}

// means[b] of the rows of dy of bags begin … end
[[maybe_unused]] void mean_squares(const float* const* dy, int64_t begin, int64_t end, int64_t V,
                                   double* means) {
  for (int64_t b = begin; b < end; ++b) means[b] = mean_square(dy[b], V);
}

// Adds the mean square of weight * dy to the row's own number; returns the divisor of the row-wise
// rule. mean: that of dy.
template <class T>
inline float add_mean_square(const RowwiseAdagradRule& rule, const TableRow<T>& row, float weight,
                             double mean) {
  *row.state1 += static_cast<float>(mean * weight * weight);
  return __builtin_sqrtf(*row.state1) + rule.eps;
}

// Sums the gradient of a row of several entries into g; returns its mean square for the row-wise
// rule, else 0.
template <class Rule>
[[gnu::noinline]] double sum_row(const HotRows& gradients, int64_t r, int64_t V, float* g) {
  gradients.gradient(r, g);
  return kRowwise<Rule> ? mean_square(g, V) : 0;
}

// The gradient of touched row r. A row with one entry, most rows of a large table, has it in dy;
// others are summed into g [V]. entries: a copy of the gradients' entries that no store can reach.
template <class T, class Rule>
[[gnu::always_inline]] inline UpdateGradient gradient_of(const Rule& rule, const HotRows& gradients,
                                                         const RowEntries& entries,
                                                         const double* means,
                                                         const TableRow<T>& row, int64_t r,
                                                         int64_t V, float* g) {
  UpdateGradient result{.sum = {.weight = 1.0f, .dy = g}, .root = 0};
  double mean = 0;
  if (entries.one_entry(r)) {
    const Entry entry = entries.first_entry(r);
    result.sum = {.weight = entry.weight, .dy = entries.dy_of(entry)};
    if constexpr (kRowwise<Rule>) mean = means[entry.bag];
  } else {
    mean = sum_row<Rule>(gradients, r, V, g);
  }
  if constexpr (kRowwise<Rule>) result.root = add_mean_square(rule, row, result.sum.weight, mean);
  return result;
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
