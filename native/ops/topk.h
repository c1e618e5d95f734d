#pragma once
// The top k of the last axis, in order: value descending, then index ascending. NaN counts as above
// +Inf (two NaN by index), and -0 equals +0. The order as integers: core/order.h.
//   x         [..., n]   float32  in
//   values    [..., k]   float32  out
//   indices   [..., k]   int32    out
// 1 <= k <= n.

#include "core/order.h"
#include "ops/operands.h"

namespace ml {

struct TopK {
  View values, indices, x;
  int64_t k = 1;
};

template <class Input>
constexpr void inputs(const TopK& a, Input&& input) {
  input("x", a.x);
}

inline Outputs<TopK, 2> outputs(const TopK& a) {
  expect_last_axis("topK", "x", a.x);
  expect_dtype("topK", "x", a.x, DType::f32);
  const int64_t n = a.x.dim(-1);
  expect(a.k >= 1 && a.k <= n, Code::value, "topK", "k", "be from 1 to " + std::to_string(n),
         std::to_string(a.k),
         "The last axis of \"x\" " + to_string(a.x.shape) + " has that many values.");
  const Shape shape = with_last_axis(a.x.shape, a.k);
  return {
      "topK",
      {{&TopK::values, "out.values", shape}, {&TopK::indices, "out.indices", shape, DType::i32}}};
}

}  // namespace ml
