#pragma once
// Functions with the same bits on every device: float multiplications and additions, each rounded
// once. A .cu that calls them is compiled without fused multiply-add (cmake/cuda.cmake).

#include <bit>
#include <cstdint>

#include "core/half.h"

namespace ml {

template <int n>
ML_HOST_DEVICE inline float polynomial(const float (&c)[n], float x) {
  float y = c[0];
  for (int i = 1; i < n; ++i) {
    const float product = y * x;
    y = product + c[i];
  }
  return y;
}

// ln(u) for a normal float u in (0, 1]
ML_HOST_DEVICE inline float natural_log(float u) {
  constexpr float kLog[] = {-0.0745118627f, 0.128066105f, -0.132660314f, 0.141996501f,
                            -0.166083694f,  0.200009394f, -0.250015791f, 0.333333453f,
                            -0.499999885f,  0.999999999f};
  const uint32_t bits = std::bit_cast<uint32_t>(u);
  // sqrt(1/2): the mantissa then lies in [sqrt(1/2), sqrt(2))
  const uint32_t shifted = bits - 0x3f3504f3u;
  const int32_t exponent = static_cast<int32_t>(shifted) >> 23;
  const float f = std::bit_cast<float>((shifted & 0x7fffffu) + 0x3f3504f3u) - 1.0f;
  const float series = f * polynomial(kLog, f);
  const float whole = static_cast<float>(exponent) * 0.693147182464599609375f;
  return whole + series;
}

// Sine and cosine of an angle in units of 2^-32 turns.
ML_HOST_DEVICE inline void sine_cosine(uint32_t angle, float& sine, float& cosine) {
  constexpr float kSin[] = {41.4728291f, -76.6978662f, 81.6052047f, -41.3417022f, 6.28318531f};
  constexpr float kCos[] = {59.2201685f, -85.4428447f, 64.9393161f, -19.7392087f, 1.0f};
  const uint32_t quarter = (angle + 0x20000000u) >> 30;  // the nearest quarter turn
  // turns, |r| <= 1/8
  const float r =
      static_cast<float>(static_cast<int32_t>(angle - (quarter << 30))) * 2.3283064365386963e-10f;
  const float q = r * r;
  const float s = r * polynomial(kSin, q), c = polynomial(kCos, q);
  const float x = (quarter & 1) ? s : c, y = (quarter & 1) ? c : s;
  cosine = (quarter == 1 || quarter == 2) ? -x : x;
  sine = quarter >= 2 ? -y : y;
}

// e^x * 2^bits, rounded down, for x <= 0 and bits <= 62; 0 for NaN
ML_HOST_DEVICE inline uint64_t scaled_exp(float x, int bits) {
  constexpr float kExp[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
  if (!(x > -44.0f)) return 0;      // e^-44 < 2^-63
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float octaves = x * 1.44269504088896341f;
  const float shifted = octaves + magic;
  const float n = shifted - magic;
  const float high = n * 0.693145751953125f, low = n * 1.42860682030941723212e-6f;
  float r = x - high;
  r = r - low;
  // polynomial(r) * 2^23 as an integer, then a shift
  const auto mantissa =
      static_cast<uint64_t>(static_cast<int32_t>(polynomial(kExp, r) * 8388608.0f));
  const int shift = static_cast<int>(n) + bits - 23;
  return shift >= 0 ? mantissa << shift : shift > -64 ? mantissa >> -shift : 0;
}

}  // namespace ml
