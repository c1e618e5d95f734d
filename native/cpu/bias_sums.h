// Sums of the columns of a matrix, for the gradients of biases. Included inside an instruction-set
// pass, like simd.h.

#if defined(ML_CPU_BIAS_SUMS_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_CPU_BIAS_SUMS_H
#undef ML_CPU_BIAS_SUMS_H
#else
#define ML_CPU_BIAS_SUMS_H
#endif

#include "cpu/column_sums.h"
#include "cpu/rows.h"
#include "cpu/tuning.h"

namespace ml::cpu::ML_ISA {
namespace {

// sums[j] = sum over `rows` rows of dy[r, j], j in [0, columns), columns <= kBiasColumns
[[maybe_unused]] inline void sum_rows(float* sums, const float* dy, int64_t rows, int64_t stride,
                                      int64_t columns) {
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
[[maybe_unused]] inline void add_columns(float* to, const float* dy, int64_t rows, int64_t stride,
                                         int64_t columns) {
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

#endif
