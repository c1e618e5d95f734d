#pragma once
// The total order of top-k (ops/topk.h) in integers, the same on every device.

#include <bit>
#include <cstdint>

#include "core/half.h"

namespace ml {

// The order of values as integers: ascending as the floats are, NaN above +Inf, both zeros the
// same. Never 0.
ML_HOST_DEVICE constexpr uint32_t ordered_bits(float x) {
  if (x != x) return 0xffffffffu;
  const uint32_t u = std::bit_cast<uint32_t>(x + 0.0f);  // -0 + 0 = +0
  return (u & 0x80000000u) ? ~u : (u | 0x80000000u);
}

// The value again: zero without its sign, NaN as some NaN.
ML_HOST_DEVICE constexpr float from_ordered_bits(uint32_t bits) {
  return std::bit_cast<float>((bits & 0x80000000u) ? bits & 0x7fffffffu : ~bits);
}

// An element as one number: the greater comes first. Unlike for unlike indices, never 0.
ML_HOST_DEVICE constexpr uint64_t order_key(uint32_t bits, uint32_t index) {
  return static_cast<uint64_t>(bits) << 32 | (0xffffffffu - index);
}
ML_HOST_DEVICE constexpr uint32_t bits_of(uint64_t key) { return static_cast<uint32_t>(key >> 32); }
ML_HOST_DEVICE constexpr uint32_t index_of(uint64_t key) {
  return 0xffffffffu - static_cast<uint32_t>(key);
}

}  // namespace ml
