#pragma once
// A float32 as a bfloat16 and a signed low half: the float's bits are (high << 16) + low. Exact but
// for the payload of NaN. `high` is the nearest bfloat16, of two the one away from zero: nearest
// even would leave low halves of 2^15, which do not fit.

#include "core/half.h"

namespace ml {

ML_HOST_DEVICE constexpr BFloat16 high_half(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  if (x != x) return {static_cast<uint16_t>((u >> 16) | 0x40u)};
  return {static_cast<uint16_t>((u + 0x8000u) >> 16)};
}

ML_HOST_DEVICE constexpr int16_t low_half(float x) {
  return static_cast<int16_t>(std::bit_cast<uint32_t>(x) & 0xffffu);
}

ML_HOST_DEVICE constexpr float join(BFloat16 high, int16_t low) {
  const uint32_t extended = static_cast<uint32_t>(static_cast<int32_t>(low));
  return std::bit_cast<float>((static_cast<uint32_t>(high.bits) << 16) + extended);
}

}  // namespace ml
