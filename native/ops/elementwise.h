#pragma once
// The elementwise rest. Shapes of one call agree; a dtype is float32 unless said.
//   Fill        out[i] = value                                       any dtype
//   Copy        out[i] = in[i]                                       any pair of float dtypes
//   (rounds to nearest even), or equal dtypes Combine     out[i] = a * x[i] + b * y[i] out may be x
//   or y Activate    y[i] = f(x[i]) ActivateBackward  dx[i] (+)= dy[i] * f'(x[i])

#include "core/activation.h"
#include "core/check.h"

namespace ml {

struct Fill {
  View out;
  double value = 0;
};

struct Copy {
  View out, in;
};

struct Combine {
  View out, x, y;
  float a = 1, b = 1;
};

struct Activate {
  View y, x;
  Activation kind = Activation::relu;
};

struct ActivateBackward {
  View dx, dy, x;
  Activation kind = Activation::relu;
  bool accumulate = false;
};

inline bool is_float(DType t) { return t == DType::f32 || t == DType::f16 || t == DType::bf16; }

inline void check(const Fill&) {}

inline void check(const Copy& a) {
  expect_shape("copy", "source", a.in, a.out.shape);
  expect(a.in.dtype == a.out.dtype || (is_float(a.in.dtype) && is_float(a.out.dtype)), Code::dtype,
         "copy", "source",
         std::string("be ") + name_of(a.out.dtype) +
             (is_float(a.out.dtype) ? ", or another float dtype" : ""),
         name_of(a.in.dtype));
}

inline void check(const Combine& a) {
  expect_dtype("add", "x", a.x, DType::f32);
  expect_same("add", "y", a.y, a.x);
  expect_same("add", "out", a.out, a.x);
}

inline const char* name_of(Activation kind, bool backward) {
  constexpr const char* names[][2] = {{"relu", "reluBackward"},
                                      {"gelu", "geluBackward"},
                                      {"silu", "siluBackward"},
                                      {"sigmoid", "sigmoidBackward"}};
  return names[static_cast<int>(kind)][backward];
}

inline void check(const Activate& a) {
  expect_dtype(name_of(a.kind, false), "x", a.x, DType::f32);
  expect_same(name_of(a.kind, false), "out", a.y, a.x);
}

inline void check(const ActivateBackward& a) {
  expect_dtype(name_of(a.kind, true), "x", a.x, DType::f32);
  expect_same(name_of(a.kind, true), "dy", a.dy, a.x);
  expect_same(name_of(a.kind, true), "out", a.dx, a.x);
}

}  // namespace ml
