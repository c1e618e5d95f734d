#pragma once
// The shape rule of an operation: outputs(args) checks the inputs and says what each output must
// be. The binding and the layers allocate by it, and check(args) compares given outputs with it.

#include "core/check.h"

namespace ml {

template <class Args>
struct Output {
  using Member = View Args::*;
  Member view;
  const char* name;  // in messages
  Shape shape;
  DType dtype = DType::f32;
  bool optional = false;  // computed only where it is given
  bool added_to = false;  // += instead of =
};

template <class Args, int count>
struct Outputs {
  static constexpr int kCount = count;
  const char* op;  // in messages
  Output<Args> list[count];
};

template <class Args, int count>
void check_outputs(const Args& a, const Outputs<Args, count>& outputs) {
  for (const Output<Args>& o : outputs.list) {
    const View& given = a.*o.view;
    if (o.optional && !given) continue;
    expect_dtype(outputs.op, o.name, given, o.dtype);
    expect_shape(outputs.op, o.name, given, o.shape);
  }
}

// Operations without a shape rule have a check of their own.
template <class Args>
auto check(const Args& a) -> decltype(outputs(a), void()) {
  check_outputs(a, outputs(a));
}

// `shape` with another last axis.
inline Shape with_last_axis(Shape shape, int64_t size) {
  shape.dims[shape.rank - 1] = size;
  return shape;
}

inline void expect_last_axis(const char* op, const char* arg, const View& v) {
  expect(v.shape.rank >= 1, Code::shape, op, arg, "have at least one axis", "[]");
}

inline void expect_int32(const char* op, const char* arg, const View& v, const Shape& shape) {
  expect_dtype(op, arg, v, DType::i32);
  expect_shape(op, arg, v, shape);
}

}  // namespace ml
