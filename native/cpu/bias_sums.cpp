#include "cpu/bias_sums.h"

#ifdef ML_ISA
#include "cpu/column_sums.h"
#include "cpu/rows.h"
#include "cpu/tuning.h"

namespace ml::cpu::ML_ISA {
namespace {

// sums[j] = sum over `rows` rows of dy[r, j], j in [0, columns), columns <= kBiasColumns
void sum_rows(float* sums, const float* dy, int64_t rows, int64_t stride, int64_t columns) {
  Vec v[kBiasColumns / kWidth] = {};
  if (columns == kBiasColumns) {
    for (int64_t r = 0; r < rows; ++r)
      for (int i = 0; i < kBiasColumns / kWidth; ++i) v[i] += load(dy + r * stride + i * kWidth);
  } else {
    for (int64_t r = 0; r < rows; ++r)
      for_vectors(columns,
                  [&](int64_t j, int n) { v[j / kWidth] += load_n(dy + r * stride + j, n); });
  }
  for (int i = 0; i < kBiasColumns / kWidth; ++i) store(sums + i * kWidth, v[i]);
}

// to[j] += sum over `rows` rows of dy[r, j], j in [0, columns), columns <= kBiasColumns: float32
// sums of kColumnSumRows rows, added in float64
void add_columns(float* to, const float* dy, int64_t rows, int64_t stride, int64_t columns) {
  float sums[kBiasColumns];
  double totals[kBiasColumns] = {};
  for (int64_t r = 0; r < rows; r += kColumnSumRows) {
    const int64_t count = rows - r < kColumnSumRows ? rows - r : kColumnSumRows;
    sum_rows(sums, dy + r * stride, count, stride, columns);
    for (int64_t j = 0; j < kBiasColumns; ++j) totals[j] += sums[j];
  }
  for (int64_t j = 0; j < columns; ++j) to[j] = static_cast<float>(to[j] + totals[j]);
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#define ML_ISA_SOURCE "cpu/bias_sums.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {
namespace {

// The rows of group g are begins[g] … begins[g + 1].
template <class Offset>
void add_groups(KernelContext& ctx, float* dbias, const float* dy, int64_t columns,
                const Offset* begins, int64_t groups) {
  const int64_t blocks = (columns + kBiasColumns - 1) / kBiasColumns;
  const auto add = ML_DISPATCH(add_columns);
  ctx.parallel_for(groups * blocks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t g = u / blocks, j = u % blocks * kBiasColumns;
      add(dbias + g * columns + j, dy + begins[g] * columns + j, begins[g + 1] - begins[g], columns,
          columns - j < kBiasColumns ? columns - j : kBiasColumns);
    }
  });
}

}  // namespace

void add_bias_sums(KernelContext& ctx, float* dbias, const float* dy, int64_t rows,
                   int64_t columns) {
  const int64_t begins[] = {0, rows};
  add_groups(ctx, dbias, dy, columns, begins, 1);
}

void add_bias_sums(KernelContext& ctx, float* dbias, const float* dy, const View& offsets,
                   int64_t columns) {
  add_groups(ctx, dbias, dy, columns, offsets.as<int32_t>(), offsets.size() - 1);
}

}  // namespace ml::cpu
#endif
