#pragma once
// Fill        out[i] = value
//   out    [any]    any dtype        out
// FillEach    out[i] = value, of several tensors in one launch
//   out    [any]    float32 | int32  out

#include <vector>

#include "ops/operands.h"

namespace ml {

struct Fill {
  View out;
  double value = 0;
};

struct FillEach {
  // The caller has seen to it that they share no memory.
  static constexpr bool kApart = true;

  std::vector<Fill> fills;
};

template <class Input>
constexpr void inputs(const Fill&, Input&&) {}

template <class Input>
constexpr void inputs(const FillEach&, Input&&) {}

template <class Output>
constexpr void outputs(const Fill& a, Output&& output) {
  output("tensor", a.out);
}

template <class Output>
constexpr void outputs(const FillEach& a, Output&& output) {
  for (const Fill& f : a.fills) output("tensor", f.out);
}

inline void check(const Fill&) {}

inline void check(const FillEach& a) {
  for (const Fill& f : a.fills)
    expect(f.out.dtype == DType::f32 || f.out.dtype == DType::i32, Code::dtype, "fill", "tensor",
           "be float32 or int32", name_of(f.out.dtype));
}

}  // namespace ml
