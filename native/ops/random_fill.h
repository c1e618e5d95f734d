#pragma once
// Random numbers that are the same on every device, for any number of threads.
//   uniform   out[i] = a + (b - a) * u_i     u_i in [0, 1)
//   normal    out[i] = a + b * z_i           z_i by Box-Muller
//     out     [any]   float32 | float16 | bfloat16  out
// Element i comes from core/philox.h with key `seed` and counter i / 4. With `width`, out holds
// some columns of a tensor [rows, width], from column `first` on, with the numbers that they have
// there:
//     out     [rows, columns]   first + columns <= width
// The arithmetic is float
// multiplication, addition and sqrt, each rounded once, with no library function and nothing fused,
// so the bits agree too (core/portable_math.h).

#include <cmath>

#include "core/philox.h"
#include "core/portable_math.h"
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
  int64_t first = 0;
  int64_t width = 0;  // 0: out is the whole
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
  if (a.width == 0) return;
  expect_rank(op, "tensor", a.out, 2, "[rows, columns]");
  if (a.first < 0 || a.first > a.width - a.out.dim(1))
    fail(Code::value, op, "first", "leave its columns inside of " + std::to_string(a.width),
         std::to_string(a.first));
  expect_valid(op, "the whole", {a.out.dim(0), a.width});
}

// Two normal numbers from two words.
ML_HOST_DEVICE inline void box_muller(uint32_t a, uint32_t b, float* z) {
  const float u = unit(a) + 2.98023223876953125e-8f;  // half a step up: never 0
  const float radius = std::sqrt(-2.0f * natural_log(u));
  float sine, cosine;
  sine_cosine(b, sine, cosine);
  z[0] = radius * cosine;
  z[1] = radius * sine;
}

// Elements 4 * counter … 4 * counter + 3
ML_HOST_DEVICE inline void random4(const RandomFill& a, uint64_t counter, float* out) {
  const Random4 random = philox(counter, a.seed, RandomUse::fill);
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

// Of the columns of a wider tensor, element i of out.
ML_HOST_DEVICE inline float random_of_columns(const RandomFill& a, int64_t columns, int64_t i) {
  const int64_t at = i / columns * a.width + a.first + i % columns;
  float values[4];
  random4(a, static_cast<uint64_t>(at / 4), values);
  return values[at % 4];
}

}  // namespace ml
