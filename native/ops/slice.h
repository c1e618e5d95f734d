#pragma once
// A box of a tensor: size[a] elements from begin[a] on of each axis a.
//   Slice           out[i, …] = x[begin + i, …]
//   SliceBackward   dx = zeros, but dx[begin + i, …] = dy[i, …]
//     x, dx     [any]   any dtype  in, out
//     out, dy   [size]  as x       out, in

#include "ops/operands.h"

namespace ml {

struct Slice {
  View out, x;
  Shape begin, size;
};

struct SliceBackward {
  View dx, dy;
  Shape begin, shape;  // of x
};

inline void check_box(const char* op, const Shape& shape, const Shape& begin, const Shape& size) {
  expect(begin.rank == shape.rank && size.rank == shape.rank, Code::shape, op, "begin",
         "have one number for each axis of " + to_string(shape), to_string(begin));
  for (int i = 0; i < shape.rank; ++i)
    expect(begin[i] >= 0 && size[i] >= 0 && begin[i] <= shape[i] && size[i] <= shape[i] - begin[i],
           Code::value, op, "begin",
           "leave the box " + to_string(size) + " inside " + to_string(shape), to_string(begin));
}

template <class Input>
constexpr void inputs(const Slice& a, Input&& input) {
  input("x", a.x);
}

inline Outputs<Slice, 1> outputs(const Slice& a) {
  check_box("slice", a.x.shape, a.begin, a.size);
  return {"slice", {{&Slice::out, "out", a.size, a.x.dtype}}};
}

template <class Input>
constexpr void inputs(const SliceBackward& a, Input&& input) {
  input("dy", a.dy);
}

inline Outputs<SliceBackward, 1> outputs(const SliceBackward& a) {
  const char* op = "sliceBackward";
  expect_valid(op, "shape", a.shape);
  check_box(op, a.shape, a.begin, a.dy.shape);
  return {op, {{&SliceBackward::dx, "out", a.shape, a.dy.dtype}}};
}

}  // namespace ml
