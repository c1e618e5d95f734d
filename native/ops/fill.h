#pragma once
// out[i] = value
//   out    [any]    any dtype  out

#include "core/check.h"

namespace ml {

struct Fill {
  View out;
  double value = 0;
};

inline void check(const Fill&) {}

}  // namespace ml
