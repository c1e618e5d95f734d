#pragma once
// In what type the operands of matrix products are multiplied. Sums are float32 in each.
//   float32    as they are
//   bfloat16   rounded to bfloat16, to nearest even
//   tf32       rounded to 10 bits of mantissa, to nearest, ties away from zero; CUDA only
// In the last two the operands of a product may differ in dtype.

#include <cstdint>

#include "core/check.h"

namespace ml {

enum class Compute : uint8_t { float32, bfloat16, tf32 };
constexpr int count_of(Compute) { return static_cast<int>(Compute::tf32) + 1; }

// The second operand of a product, whose first has the dtype `first`.
inline void expect_second_operand(const char* op, const char* arg, const View& v, DType first,
                                  Compute compute) {
  if (compute == Compute::float32)
    expect_dtype(op, arg, v, first);
  else
    expect_float(op, arg, v);
}

}  // namespace ml
