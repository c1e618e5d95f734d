#pragma once
// In what type the operands of matrix products are multiplied. Sums are float32 in each.
//   float32    as they are
//   bfloat16   rounded to bfloat16, to nearest even; the operands may then differ in dtype

#include <cstdint>

#include "core/check.h"

namespace ml {

enum class Compute : uint8_t { float32, bfloat16 };
constexpr int count_of(Compute) { return static_cast<int>(Compute::bfloat16) + 1; }

// The second operand of a product, whose first has the dtype `first`.
inline void expect_second_operand(const char* op, const char* arg, const View& v, DType first,
                                  Compute compute) {
  if (compute == Compute::bfloat16)
    expect_float(op, arg, v);
  else
    expect_dtype(op, arg, v, first);
}

}  // namespace ml
