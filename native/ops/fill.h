#pragma once
// out[i] = value
//   out    [any]    any dtype  out

#include "ops/operands.h"

namespace ml {

struct Fill {
  View out;
  double value = 0;
};

template <class Input>
constexpr void inputs(const Fill&, Input&&) {}

template <class Output>
constexpr void outputs(const Fill& a, Output&& output) {
  output("tensor", a.out);
}

inline void check(const Fill&) {}

}  // namespace ml
