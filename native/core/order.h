#pragma once
// The total order of top-k (ops/topk.h) in integers, the same on every device.

#include <bit>
#include <cstdint>

#include "core/half.h"

namespace ml {

// The value as an integer of the same order: NaN above +Inf, both zeros the same. Never 0.
ML_HOST_DEVICE constexpr uint32_t ordered_bits(float x) {
  if (x != x) return 0xffffffffu;
  const uint32_t u = std::bit_cast<uint32_t>(x + 0.0f);  // -0 + 0 = +0
  return (u & 0x80000000u) ? ~u : (u | 0x80000000u);
}

// The inverse, up to the sign of zero and the payload of NaN.
ML_HOST_DEVICE constexpr float from_ordered_bits(uint32_t bits) {
  return std::bit_cast<float>((bits & 0x80000000u) ? bits & 0x7fffffffu : ~bits);
}

// Value and index in one key: the larger key comes first. Distinct for distinct indices, never 0.
ML_HOST_DEVICE constexpr uint64_t order_key(uint32_t bits, uint32_t index) {
  return static_cast<uint64_t>(bits) << 32 | (0xffffffffu - index);
}
ML_HOST_DEVICE constexpr uint32_t bits_of(uint64_t key) { return static_cast<uint32_t>(key >> 32); }
ML_HOST_DEVICE constexpr uint32_t index_of(uint64_t key) {
  return 0xffffffffu - static_cast<uint32_t>(key);
}

}  // namespace ml
