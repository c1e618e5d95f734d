#pragma once
// Random numbers that are the same on every device, for any number of threads.
//   uniform   out[i] = a + (b - a) * u_i     u_i in [0, 1)
//   normal    out[i] = a + b * z_i           z_i by Box-Muller
//     out     [any]   float32 | float16 | bfloat16  out
// Element i comes from Philox4x32-10 (Salmon et al. 2011) with key `seed` and counter i / 4. The
// arithmetic is float multiplication, addition and sqrt, each rounded once, with no library
// function and nothing fused, so the bits agree too.

#include <cmath>

#include "ops/operands.h"

namespace ml {

struct RandomFill {
  enum class Kind : uint8_t { uniform, normal };
  friend constexpr int count_of(Kind) { return static_cast<int>(Kind::normal) + 1; }
  View out;
  Kind kind = Kind::uniform;
  float a = 0;  // low, or mean
  float b = 1;  // high, or standard deviation
  uint64_t seed = 0;
};

template <class Input>
constexpr void inputs(const RandomFill&, Input&&) {}

template <class Output>
constexpr void outputs(const RandomFill& a, Output&& output) {
  output("tensor", a.out);
}

inline void check(const RandomFill& a) {
  const char* op = a.kind == RandomFill::Kind::normal ? "normal" : "uniform";
  expect_float(op, "dtype", a.out);
}

struct Random4 {
  uint32_t word[4];
};

ML_HOST_DEVICE inline Random4 philox(uint64_t counter, uint64_t key) {
  uint32_t c0 = static_cast<uint32_t>(counter), c1 = static_cast<uint32_t>(counter >> 32), c2 = 0,
           c3 = 0;
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// 24 bits: k / 2^24 in [0, 1)
ML_HOST_DEVICE inline float unit(uint32_t word) {
  return static_cast<float>(word >> 8) * 5.9604644775390625e-8f;
}

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

// Two normal numbers from two words.
ML_HOST_DEVICE inline void box_muller(uint32_t a, uint32_t b, float* z) {
  constexpr float kSin[] = {41.4728291f, -76.6978662f, 81.6052047f, -41.3417022f, 6.28318531f};
  constexpr float kCos[] = {59.2201685f, -85.4428447f, 64.9393161f, -19.7392087f, 1.0f};
  const float u = unit(a) + 2.98023223876953125e-8f;  // half a step up: never 0
  const float radius = std::sqrt(-2.0f * natural_log(u));
  const uint32_t quarter = (b + 0x20000000u) >> 30;  // the nearest quarter turn
  // turns, |r| <= 1/8
  const float r =
      static_cast<float>(static_cast<int32_t>(b - (quarter << 30))) * 2.3283064365386963e-10f;
  const float q = r * r;
  const float s = r * polynomial(kSin, q), c = polynomial(kCos, q);
  const float cosine = (quarter & 1) ? s : c, sine = (quarter & 1) ? c : s;
  z[0] = radius * ((quarter == 1 || quarter == 2) ? -cosine : cosine);
  z[1] = radius * ((quarter >= 2) ? -sine : sine);
}

// Elements 4 * counter … 4 * counter + 3
ML_HOST_DEVICE inline void random4(const RandomFill& a, uint64_t counter, float* out) {
  const Random4 random = philox(counter, a.seed);
  if (a.kind == RandomFill::Kind::normal) {
    box_muller(random.word[0], random.word[1], out);
    box_muller(random.word[2], random.word[3], out + 2);
  } else {
    for (int i = 0; i < 4; ++i) out[i] = unit(random.word[i]);
  }
  const float scale = a.kind == RandomFill::Kind::normal ? a.b : a.b - a.a;
  for (int i = 0; i < 4; ++i) {
    const float product = out[i] * scale;
    out[i] = product + a.a;
  }
}

}  // namespace ml
