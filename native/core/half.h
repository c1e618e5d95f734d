#pragma once
// IEEE half and bfloat16 as bit patterns: conversions are exact towards float32 and round to
// nearest even from it. NaN stays NaN. Usable on host and device.

#include <bit>
#include <cstdint>

#ifdef __CUDACC__
#define ML_HOST_DEVICE __host__ __device__
#else
#define ML_HOST_DEVICE
#endif

namespace ml {

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

ML_HOST_DEVICE constexpr float to_float(float x) { return x; }

ML_HOST_DEVICE constexpr float to_float(BFloat16 x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16);
}

ML_HOST_DEVICE constexpr float to_float(Half x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t exponent = (x.bits >> 10) & 0x1fu;
  const uint32_t mantissa = x.bits & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0)
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  // Subnormal: mantissa * 2^-24, exact in float32.
  const float magnitude = static_cast<float>(mantissa) * 5.9604644775390625e-8f;
  return sign ? -magnitude : magnitude;
}

ML_HOST_DEVICE constexpr BFloat16 to_bfloat16(float value) {
  const uint32_t u = std::bit_cast<uint32_t>(value);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((u >> 16) | 0x40u)};
  return {static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}

ML_HOST_DEVICE constexpr Half to_half(float value) {
  const uint32_t u = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((u >> 16) & 0x8000u);
  const uint32_t a = u & 0x7fffffffu;
  if (a > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7e00u | ((a >> 13) & 0x3ffu))};
  // rounds to 65536 and above
  if (a >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};
  if (a >= 0x38800000u) {  // normal half
    const uint32_t r = a - 0x38000000u;
    return {static_cast<uint16_t>(sign | ((r + 0xfffu + ((r >> 13) & 1u)) >> 13))};
  }
  if (a < 0x33000000u) return {sign};       // below half of the smallest subnormal
  const uint32_t shift = 126u - (a >> 23);  // 14 … 24
  const uint32_t m = (a & 0x7fffffu) | 0x800000u;
  const uint32_t q = m >> shift;
  const uint32_t rest = m & ((1u << shift) - 1u);
  const uint32_t half = 1u << (shift - 1u);
  return {
      static_cast<uint16_t>(sign | (q + ((rest > half || (rest == half && (q & 1u))) ? 1u : 0u)))};
}

template <class T>
ML_HOST_DEVICE constexpr T from_float(float value);
template <>
ML_HOST_DEVICE constexpr float from_float<float>(float value) {
  return value;
}
template <>
ML_HOST_DEVICE constexpr Half from_float<Half>(float value) {
  return to_half(value);
}
template <>
ML_HOST_DEVICE constexpr BFloat16 from_float<BFloat16>(float value) {
  return to_bfloat16(value);
}

}  // namespace ml
