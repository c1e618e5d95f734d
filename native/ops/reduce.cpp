#include "ops/reduce.h"

#ifdef ML_ISA
#include "cpu/column_sums.h"
#include "cpu/pieces.h"
#include "cpu/rows.h"
#include "ops/reduce_cpu.h"

namespace ml::cpu::ML_ISA {
namespace {

// Sums: of so many numbers in each lane in float32, of those in float64.
struct SumRule {
  static constexpr float kNone = 0;
  static Vec add(Vec sum, Vec x) { return sum + x; }
  static double add(double sum, double x) { return sum + x; }
};
// The max, where NaN is the greatest.
struct MaxRule {
  static constexpr float kNone = -__builtin_inff();
  static Vec add(Vec max, Vec x) { return (x > max) | (x != x) ? x : max; }
  static double add(double max, double x) { return x > max || x != x ? x : max; }
};

// The contiguous x[0] … x[count - 1]
template <class Rule>
double reduce_row(const float* x, int64_t count) {
  constexpr int kSums = 4;
  constexpr int64_t kBlock = kColumnSumRows * kSums * kWidth;
  double total = Rule::kNone;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = count - begin < kBlock ? count : begin + kBlock;
    Vec sum[kSums];
    for (Vec& v : sum) v = set1(Rule::kNone);
    int64_t i = begin;
    for (; i + kSums * kWidth <= end; i += kSums * kWidth)
      for (int v = 0; v < kSums; ++v) sum[v] = Rule::add(sum[v], load(x + i + v * kWidth));
    for (; i + kWidth <= end; i += kWidth) sum[0] = Rule::add(sum[0], load(x + i));
    if (end - begin >= kWidth) {
      const Vec all = Rule::add(Rule::add(sum[0], sum[1]), Rule::add(sum[2], sum[3]));
      total = Rule::add(total, reduce(all, [](Vec a, Vec b) { return Rule::add(a, b); }));
    }
    for (; i < end; ++i) total = Rule::add(total, static_cast<double>(x[i]));
  }
  return total;
}

// totals[j] = of it and of x[r * stride + j] over all rows, for the columns j < count <=
// kReduceColumns
template <class Rule>
void add_columns(double* totals, const float* x, int64_t rows, int64_t stride, int64_t count) {
  constexpr int kVectors = kReduceColumns / kWidth;
  for (int64_t begin = 0; begin < rows; begin += kColumnSumRows) {
    const int64_t end = rows - begin < kColumnSumRows ? rows : begin + kColumnSumRows;
    Vec sum[kVectors];
    for (Vec& v : sum) v = set1(Rule::kNone);
    for (int64_t r = begin; r < end; ++r) {
      const float* row = x + r * stride;
      if (count == kReduceColumns)
        for (int v = 0; v < kVectors; ++v) sum[v] = Rule::add(sum[v], load(row + v * kWidth));
      else
        for_vectors(count, [&](int64_t j, int n) {
          sum[j / kWidth] = Rule::add(sum[j / kWidth], load_n(row + j, n));
        });
    }
    alignas(64) float block[kReduceColumns];
    for (int v = 0; v < kVectors; ++v) store(block + v * kWidth, sum[v]);
    for (int64_t j = 0; j < count; ++j)
      totals[j] = Rule::add(totals[j], static_cast<double>(block[j]));
  }
}

// The same. Rows that are few columns wide and follow one another are taken many at once, as one
// row.
template <class Rule>
void reduce_columns(double* totals, const float* x, int64_t rows, int64_t stride, int64_t count) {
  const int64_t at_once = stride == count ? kReduceColumns / count : 1;
  if (at_once > 1) {
    double wide[kReduceColumns];
    for (double& total : wide) total = Rule::kNone;
    const int64_t width = at_once * count, wide_rows = rows / at_once;
    add_columns<Rule>(wide, x, wide_rows, width, width);
    for (int64_t j = 0; j < width; ++j) totals[j % count] = Rule::add(totals[j % count], wide[j]);
    x += wide_rows * width;
    rows -= wide_rows * at_once;
  }
  add_columns<Rule>(totals, x, rows, stride, count);
}

// One task: a part of the reduced elements of some outputs.
template <class Rule>
void reduce_task(const Reduction& r, const ReduceTask& t, const float* x, double* totals) {
  for (int64_t j = 0; j < t.outputs; ++j) totals[j] = Rule::kNone;
  const int last = r.reduced.rank - 1;
  const int64_t stride = last < 0 ? 0 : r.reduced.stride[0][last];
  for_pieces(r.reduced, t.begin, t.end, [&](int64_t, int64_t count, const int64_t(&offset)[1]) {
    const float* piece = x + t.offset + offset[0];
    if (r.along_rows)
      totals[0] = Rule::add(totals[0], reduce_row<Rule>(piece, count));
    else
      reduce_columns<Rule>(totals, piece, count, stride, t.outputs);
  });
}

// y of `outputs` outputs from the totals of all parts, each `step` after the one before.
template <class Rule>
void finish(float* y, const double* totals, int64_t outputs, int64_t parts, int64_t step,
            double divisor) {
  for (int64_t j = 0; j < outputs; ++j) {
    double total = totals[j];
    for (int64_t p = 1; p < parts; ++p) total = Rule::add(total, totals[p * step + j]);
    y[j] = static_cast<float>(total / divisor);
  }
}

// Outputs begin … end, each of one contiguous row.
template <class Rule>
void reduce_rows(const Reduction& r, const float* x, float* y, int64_t begin, int64_t end,
                 double divisor) {
  const int last = r.kept.rank - 1;
  const int64_t stride = last < 0 ? 0 : r.kept.stride[0][last];
  for_pieces(r.kept, begin, end, [&](int64_t o, int64_t count, const int64_t(&offset)[1]) {
    for (int64_t j = 0; j < count; ++j)
      y[o + j] =
          static_cast<float>(reduce_row<Rule>(x + offset[0] + j * stride, r.count) / divisor);
  });
}

template <class Rule>
void reduce_by(KernelContext& ctx, const Reduce& a, const Reduction& r, double divisor) {
  const ReduceTasks tasks(r);
  const float* x = a.x.as<float>();
  float* y = a.y.as<float>();
  if (r.along_rows && r.reduced.rank <= 1 && tasks.parts == 1) {
    ctx.parallel_for(r.outputs, tasks.grain(), [&](int64_t begin, int64_t end, int) {
      reduce_rows<Rule>(r, x, y, begin, end, divisor);
    });
    return;
  }
  const int64_t step = r.along_rows ? 1 : kReduceColumns;
  double* partials = tasks.parts > 1 ? ctx.scratch<double>(tasks.count() * step) : nullptr;
  ctx.parallel_for(tasks.count(), tasks.grain(), [&](int64_t begin, int64_t end, int) {
    double own[kReduceColumns];
    for (int64_t u = begin; u < end; ++u) {
      const ReduceTask t = tasks.task(r, u);
      reduce_task<Rule>(r, t, x, partials ? partials + u * step : own);
      if (!partials) finish<Rule>(y + t.output, own, t.outputs, 1, step, divisor);
    }
  });
  for (int64_t g = 0; partials && g < tasks.groups; ++g) {
    const ReduceTask t = tasks.task(r, g * tasks.parts);
    finish<Rule>(y + t.output, partials + g * tasks.parts * step, t.outputs, tasks.parts, step,
                 divisor);
  }
}

void reduce_all(KernelContext& ctx, const Reduce& a) {
  const Reduction r(a.x.shape, a.axes);
  if (r.outputs == 0) return;
  if (a.kind == ReduceKind::max) return reduce_by<MaxRule>(ctx, a, r, 1);
  reduce_by<SumRule>(ctx, a, r, a.kind == ReduceKind::mean ? static_cast<double>(r.count) : 1);
}

// The first match of a task's outputs, as elements of x, or -1; dx of the task is 0 from here on.
void find_max_task(const MaxBackward& a, const Reduction& r, const ReduceTask& t, int64_t* found) {
  for (int64_t j = 0; j < t.outputs; ++j) found[j] = -1;
  const int last = r.reduced.rank - 1;
  const int64_t stride = last < 0 ? 0 : r.reduced.stride[0][last];
  const float *x = a.x.as<float>(), *y = a.y.as<float>() + t.output;
  float* dx = a.dx.as<float>();
  const auto is_max = [](float v, float max) { return v == max || (v != v && max != max); };
  for_pieces(r.reduced, t.begin, t.end, [&](int64_t, int64_t count, const int64_t(&offset)[1]) {
    const int64_t first = t.offset + offset[0], rows = r.along_rows ? 1 : count,
                  columns = r.along_rows ? count : t.outputs;
    for (int64_t row = 0, at = first; row < rows; ++row, at += stride) {
      if (r.along_rows)
        for (int64_t i = 0; i < count && found[0] < 0; ++i)
          found[0] = is_max(x[at + i], y[0]) ? at + i : -1;
      else
        for (int64_t j = 0; j < columns; ++j)
          if (found[j] < 0 && is_max(x[at + j], y[j])) found[j] = at + j;
      for (int64_t i = 0; i < columns; ++i) dx[at + i] = 0;
    }
  });
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#define ML_ISA_SOURCE "ops/reduce.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {

void arithmetic(KernelContext& ctx, const Arithmetic& a);  // ops/arithmetic.cpp

void reduce(KernelContext& ctx, const Reduce& a) { ML_DISPATCH(reduce_all)(ctx, a); }

void sum_backward(KernelContext& ctx, const SumBackward& a) { arithmetic(ctx, as_division(a)); }

void max_backward(KernelContext& ctx, const MaxBackward& a) {
  const Reduction r(a.x.shape, a.axes);
  if (r.outputs == 0 || r.count == 0) return;
  const auto find = ML_DISPATCH(find_max_task);
  const ReduceTasks tasks(r);
  const int64_t step = r.along_rows ? 1 : kReduceColumns;
  int64_t* found = ctx.scratch<int64_t>(tasks.count() * step);
  ctx.parallel_for(tasks.count(), tasks.grain(), [&](int64_t begin, int64_t end, int) {
    for (int64_t u = begin; u < end; ++u) find(a, r, tasks.task(r, u), found + u * step);
  });
  float* dx = a.dx.as<float>();
  const float* dy = a.dy.as<float>();
  ctx.parallel_for(tasks.groups, kElementwiseGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t g = begin; g < end; ++g) {
      const ReduceTask t = tasks.task(r, g * tasks.parts);
      for (int64_t j = 0; j < t.outputs; ++j) {
        const int64_t* of_part = found + g * tasks.parts * step + j;
        int64_t p = 0;
        while (p < tasks.parts && of_part[p * step] < 0) ++p;
        if (p < tasks.parts) dx[of_part[p * step]] = dy[t.output + j];
      }
    }
  });
}

}  // namespace ml::cpu
#endif
