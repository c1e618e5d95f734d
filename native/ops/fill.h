#pragma once
// out[i] = value.   out any shape and dtype

#include "core/check.h"

namespace ml {

struct Fill {
  View out;
  double value = 0;
};

inline void check(const Fill&) {}

}  // namespace ml
