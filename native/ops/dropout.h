#pragma once
// Dropout (Srivastava et al. 2014), and its gradient, the same of dy:
//   out[i] = x[i] / (1 - p) where element i is kept, else 0, whatever x[i] is
//   x     [any]  float32  in
//   out   as x   float32  out
// Element i is dropped where its random word is below p * 2^32: word i % 4 of core/philox.h with
// key `seed`, counter i / 4 and `step`. So the mask is the same on every device, and the backward
// pass needs no copy of it. 0 <= p < 1. out may be x.
//   numbers  [4]  int32  in, optional: two uint64, a seed in place of `seed`, and a step that
//   `step`
//            is added to; so that recorded work drops others at each replay

#include "core/philox.h"
#include "ops/operands.h"

namespace ml {

struct Dropout {
  View out, x, numbers;
  double p = 0.5;
  uint64_t seed = 0, step = 0;
  bool backward = false;  // for messages
};

template <class Input>
constexpr void inputs(const Dropout& a, Input&& input) {
  input(a.backward ? "dy" : "x", a.x, kInPlace);
  input("numbers", a.numbers);
}

inline Outputs<Dropout, 1> outputs(const Dropout& a) {
  const char* op = a.backward ? "dropoutBackward" : "dropout";
  expect_dtype(op, a.backward ? "dy" : "x", a.x, DType::f32);
  if (a.numbers) expect_int32(op, "numbers", a.numbers, {4});
  return {op, {{&Dropout::out, "out", a.x.shape}}};
}

// Of which random words the mask is.
struct DropoutNumbers {
  uint64_t seed, step;
};

// `numbers`: as of Dropout, nullptr: none
ML_HOST_DEVICE inline DropoutNumbers dropout_numbers(DropoutNumbers own, const uint32_t* numbers) {
  if (!numbers) return own;
  const auto number = [numbers](int i) {
    return uint64_t{numbers[2 * i + 1]} << 32 | numbers[2 * i];
  };
  return {number(0), number(1) + own.step};
}

// Words from here on are kept.
inline uint32_t dropout_threshold(double p) { return static_cast<uint32_t>(p * 4294967296.0); }
inline float dropout_scale(double p) { return static_cast<float>(1.0 / (1.0 - p)); }

}  // namespace ml
