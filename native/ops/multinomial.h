#pragma once
// Samples of the last axis, with probabilities that are the softmax of logits / temperature:
//   logits   [..., n]       float32  in, n from 1 to 2^23
//   out      [..., count]   int32    out, drawn with replacement
// Before the draw, top_k leaves the k largest logits, then top_p the fewest largest whose
// probabilities, of what top_k left, sum to p or more. Larger means: value descending, then index
// ascending. Temperature 0 is the largest logit. NaN and -Inf are never drawn; +Inf rules out
// all that is finite; a row with nothing to draw gives -1.
//
// A weight is e^((x - max) / temperature) in units of 2^-40, rounded down, so sums are of integers
// and have no order. Sample s of row r is the first index at which the sum of the weights before
// and with it exceeds u * total, where the 64 bits of u are words 0 and 1 of core/philox.h with key
// `seed`, counter r * 2^32 + s, and `step`. So the samples are the same on every device.

#include <limits>

#include "core/limits.h"
#include "core/order.h"
#include "core/philox.h"
#include "core/portable_math.h"
#include "ops/operands.h"

namespace ml {

inline constexpr int kWeightBits = 40;
inline constexpr int64_t kMaxChoices = int64_t{1} << 23;  // so the sum of weights is at most 2^63

struct Multinomial {
  View out, logits;
  float temperature = 1;
  int64_t top_k = 0;  // 0: all
  float top_p = 1;
  int64_t count = 1;
  uint64_t seed = 0, step = 0;
};

template <class Input>
constexpr void inputs(const Multinomial& a, Input&& input) {
  input("logits", a.logits);
}

inline Outputs<Multinomial, 1> outputs(const Multinomial& a) {
  const char* op = "multinomial";
  expect_dtype(op, "logits", a.logits, DType::f32);
  expect_last_axis(op, "logits", a.logits);
  const int64_t n = a.logits.dim(-1);
  expect(n >= 1 && n <= kMaxChoices, Code::shape, op, "logits",
         "have a last axis of 1 to 2^23 elements", to_string(a.logits.shape));
  expect(a.count >= 1 && a.count < kIndexLimit, Code::value, op, "count", "be from 1 to 2^31 - 1",
         std::to_string(a.count));
  return {op, {{&Multinomial::out, "out", with_last_axis(a.logits.shape, a.count), DType::i32}}};
}

inline constexpr float kNeverDrawn = -std::numeric_limits<float>::infinity();

// Order of what may be drawn: NaN is as -Inf.
ML_HOST_DEVICE inline uint64_t choice_key(float x, int64_t index) {
  const float value = x == x ? x : kNeverDrawn;
  return order_key(ordered_bits(value), static_cast<uint32_t>(index));
}

// Whether the row with this largest key has nothing to draw.
ML_HOST_DEVICE inline bool is_empty_choice(uint64_t largest) {
  return bits_of(largest) == ordered_bits(kNeverDrawn);
}

ML_HOST_DEVICE inline uint64_t choice_weight(float x, float max, float inverse_temperature) {
  if (x == max) return uint64_t{1} << kWeightBits;  // Inf - Inf, or 0 * Inf
  return scaled_exp((x - max) * inverse_temperature, kWeightBits);
}

// The weight that top_p needs, of a total of 1 or more.
ML_HOST_DEVICE inline uint64_t nucleus_weight(float p, uint64_t total) {
  const double wanted = static_cast<double>(p) * static_cast<double>(total);
  if (!(wanted < static_cast<double>(total))) return total;
  const auto floor = static_cast<uint64_t>(wanted);
  const uint64_t least = static_cast<double>(floor) < wanted ? floor + 1 : floor;
  return least < 1 ? 1 : least;
}

// Where sample `sample` of a row falls in [0, total): u * total / 2^64, rounded down.
ML_HOST_DEVICE inline uint64_t draw(const Multinomial& a, int64_t row, int64_t sample,
                                    uint64_t total) {
  const uint64_t counter = static_cast<uint64_t>(row) << 32 | static_cast<uint64_t>(sample);
  const Random4 random = philox(counter, a.seed, RandomUse::sampling, a.step);
  const uint64_t total_low = total & 0xffffffffu, total_high = total >> 32;
  const uint64_t low = random.word[1], high = random.word[0];  // of u
  const uint64_t middle = high * total_low + (low * total_low >> 32);
  const uint64_t other = low * total_high + (middle & 0xffffffffu);
  return high * total_high + (middle >> 32) + (other >> 32);
}

}  // namespace ml
