#pragma once
// The k greatest of the last axis, in order: value descending, then index ascending. NaN counts as
// the greatest value (two NaN by index), -0 equals +0.
//   x [..., n] float32   values [..., k] float32   indices [..., k] int32      1 <= k <= n

#include "core/check.h"
#include "core/order.h"

namespace ml {

struct TopK {
  View values, indices, x;
};

inline void check(const TopK& a) {
  expect(a.x.shape.rank >= 1, Code::shape, "topK", "x", "have at least one axis", "[]");
  expect_dtype("topK", "x", a.x, DType::f32);
  const int64_t k = a.values.dim(-1);
  expect(k >= 1 && k <= a.x.dim(-1), Code::value, "topK", "k",
         "be from 1 to " + std::to_string(a.x.dim(-1)), std::to_string(k));
}

}  // namespace ml
