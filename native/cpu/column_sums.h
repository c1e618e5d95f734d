#pragma once

#include <cstdint>

namespace ml::cpu {

// Rows that a sum of columns (dbias, dgain) adds in float32 before it goes on in float64: a single
// float32 sum is off by 1 % after a million rows.
constexpr int64_t kColumnSumRows = 128;

}  // namespace ml::cpu
