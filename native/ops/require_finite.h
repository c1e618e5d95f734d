#pragma once
// What a training step depends on: that its loss and norms are numbers.
//   values = x,   unit[0] = scale     unless an element of x is NaN or infinite
//     x       [1 … 4]  float32  in
//     after   [any]    any      in, optional: not read; if it is void, so are the outputs
//     values  [as x]   float32  out
//     unit    [1]      float32  out: the gradient of the loss, from which backward begins
// Where x is not finite that is ERR_VALUE, which names the step, and both outputs are void, and
// with them all that depends on them.

#include <cmath>

#include "ops/operands.h"

namespace ml {

inline constexpr int64_t kMostChecked = 4;

struct RequireFinite {
  View values, unit, x, after;
  const char* what = "loss";  // a literal
  int64_t step = 0;
  float scale = 1;
};

template <class Input>
constexpr void inputs(const RequireFinite& a, Input&& input) {
  input("x", a.x);
  input("after", a.after);
}

inline Outputs<RequireFinite, 2> outputs(const RequireFinite& a) {
  const char* op = "requireFinite";
  expect_dtype(op, "x", a.x, DType::f32);
  expect(a.x.size() >= 1 && a.x.size() <= kMostChecked, Code::shape, op, "x",
         "have 1 to 4 elements", to_string(a.x.shape));
  return {op, {{&RequireFinite::values, "values", a.x.shape}, {&RequireFinite::unit, "unit", {1}}}};
}

}  // namespace ml
