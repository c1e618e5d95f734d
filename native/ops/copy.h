#pragma once
// out[i] = in[i], rounded to nearest even where out's dtype is narrower.
//   in     [any]    float32 | float16 | bfloat16, or any dtype if out has the same  in
//   out    [as in]  likewise                                                        out

#include "ops/operands.h"

namespace ml {

struct Copy {
  View out, in;
};

inline bool is_float(DType t) { return t == DType::f32 || t == DType::f16 || t == DType::bf16; }

template <class Input>
constexpr void inputs(const Copy& a, Input&& input) {
  input("source", a.in, kInPlace);
}

template <class Output>
constexpr void outputs(const Copy& a, Output&& output) {
  output("target", a.out);
}

inline void check(const Copy& a) {
  expect_shape("copy", "source", a.in, a.out.shape);
  expect(a.in.dtype == a.out.dtype || (is_float(a.in.dtype) && is_float(a.out.dtype)), Code::dtype,
         "copy", "source",
         std::string("be ") + name_of(a.out.dtype) +
             (is_float(a.out.dtype) ? ", or another float dtype" : ""),
         name_of(a.in.dtype));
}

}  // namespace ml
