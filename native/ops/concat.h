#pragma once
// Tensors one after the other along an axis.
//   parts   [..., s_i, ...]       any dtype, one for all  in
//   out     [..., sum s_i, ...]   as parts                out
// The other axes of all parts are the same.

#include <vector>

#include "core/strided.h"
#include "ops/operands.h"

namespace ml {

struct Concat {
  View out;
  std::vector<View> parts;
  int64_t axis = 0;
};

template <class Input>
constexpr void inputs(const Concat& a, Input&& input) {
  for (const View& part : a.parts) input("tensors", part);
}

inline Outputs<Concat, 1> outputs(const Concat& a) {
  const char* op = "concat";
  expect(!a.parts.empty(), Code::value, op, "tensors", "have at least one tensor", "none");
  const View& first = a.parts[0];
  const int rank = first.shape.rank;
  expect(a.axis >= 0 && a.axis < rank, Code::value, op, "axis",
         "be an axis of " + to_string(first.shape), std::to_string(a.axis));
  const auto axis = static_cast<size_t>(a.axis);
  Shape shape = first.shape;
  shape.dims[axis] = 0;
  for (const View& part : a.parts) {
    expect_dtype(op, "tensors", part, first.dtype);
    Shape others = part.shape;
    expect(others.rank == rank, Code::shape, op, "tensors",
           "have as many axes as " + to_string(first.shape), to_string(others));
    others.dims[axis] = shape.dims[axis];
    expect(
        others == shape, Code::shape, op, "tensors",
        "have the sizes of " + to_string(first.shape) + " but for axis " + std::to_string(a.axis),
        to_string(part.shape));
    shape.dims[axis] += part.shape.dims[axis];  // each at most 2^50
    expect_valid(op, "out", shape);
  }
  return {op, {{&Concat::out, "out", shape, first.dtype}}};
}

// From the offset of a part in the output to that of the next.
inline int64_t part_bytes(const Concat& a, const View& part) {
  const auto axis = static_cast<size_t>(a.axis);
  return part.shape.dims[axis] * dense_strides(a.out.shape)[axis] * bytes_of(a.out.dtype);
}

}  // namespace ml
