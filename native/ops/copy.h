#pragma once
// out[i] = in[i].   out, in of one shape: equal dtypes, or any two float dtypes; what is narrowed
// is rounded to nearest even.

#include "core/check.h"

namespace ml {

struct Copy {
  View out, in;
};

inline bool is_float(DType t) { return t == DType::f32 || t == DType::f16 || t == DType::bf16; }

inline void check(const Copy& a) {
  expect_shape("copy", "source", a.in, a.out.shape);
  expect(a.in.dtype == a.out.dtype || (is_float(a.in.dtype) && is_float(a.out.dtype)), Code::dtype,
         "copy", "source",
         std::string("be ") + name_of(a.out.dtype) +
             (is_float(a.out.dtype) ? ", or another float dtype" : ""),
         name_of(a.in.dtype));
}

}  // namespace ml
