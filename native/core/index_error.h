#pragma once
// When an index or an offset is out of range, or a number is not finite, and the message for it,
// the same on every device.

#include <bit>
#include <cmath>
#include <cstdint>
#include <string>

#include "core/error.h"
#include "core/half.h"

namespace ml {

// -1, or in [0, limit)
ML_HOST_DEVICE constexpr bool is_index(int32_t value, int64_t limit) {
  return value >= -1 && value < limit;
}

// Offset i of offsets[0 … last]: the first is 0, each other at least the one before, the last
// `entries`.
ML_HOST_DEVICE constexpr bool is_offset(const int32_t* offsets, int64_t i, int64_t last,
                                        int64_t entries) {
  const bool begins = i > 0 || offsets[i] == 0, ascends = i == 0 || offsets[i] >= offsets[i - 1],
             ends = i < last || offsets[i] == entries;
  return begins && ascends && ends;
}

// By the bits of a float32.
ML_HOST_DEVICE constexpr bool is_finite_float(int32_t bits) {
  constexpr int32_t kExponent = 0x7f800000;
  return (bits & kExponent) != kExponent;
}

// What -1 means, and what there are too few of for an index that is too large.
struct IndexWords {
  const char* padding;
  const char* counted;
};
inline constexpr IndexWords kRows{"a padding entry", "rows"};
inline constexpr IndexWords kClasses{"a token to ignore", "classes"};

// "embeddingBag: "indices"[3]"
inline std::string element(const char* op, const char* argument, int64_t position) {
  return std::string(op) + ": \"" + argument + "\"[" + std::to_string(position) + "]";
}

// For a value that is neither -1 nor in [0, limit).
inline Error index_error(const char* op, const char* argument, int64_t position, int32_t value,
                         int64_t limit, const IndexWords& words) {
  const std::string needed = std::to_string(int64_t{value} + 1) + " " + words.counted;
  return Error(Code::index_range,
               element(op, argument, position) + " is " + std::to_string(value) + ", outside [0, " +
                   std::to_string(limit) + ").\n  -1 marks " + words.padding +
                   (value < 0 ? "." : "; " + needed + " (a model's vocabSize) would do."));
}

// For targets of a mean that are all to be ignored.
inline Error no_target_error(const char* op) {
  return Error(Code::value, std::string(op) + ": \"targets\" must have at least one that counts, " +
                                "got only targets to ignore.\n  A class from 0 counts; -1 and " +
                                "ignoreIndex are ignored.");
}

// For an offset that is none, and the one `before` it.
inline Error offset_error(const char* op, const char* argument, int64_t position, int32_t value,
                          int32_t before, int64_t entries) {
  const bool first = position == 0 && value != 0, falls = position > 0 && value < before;
  const std::string wanted = first   ? "0"
                             : falls ? "at least " + std::to_string(before)
                                     : std::to_string(entries);
  return Error(Code::value, element(op, argument, position) + " must be " + wanted + ", got " +
                                std::to_string(value) +
                                ".\n  offsets[0] is 0, then where each bag ends, up to " +
                                std::to_string(entries) + ".");
}

// For the loss, or a norm, of a training step: the bits of a float32.
inline Error finite_error(const char* what, int64_t step, int32_t bits) {
  const auto value = std::bit_cast<float>(bits);
  const char* found = std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
  return Error(Code::value, std::string("fit: the ") + what + " of step " + std::to_string(step) +
                                " must be finite, got " + found +
                                ".\n  This step and those behind it have changed nothing. Look at "
                                "its batch; a lower rate, a longer warm-up or clipping may help.");
}

}  // namespace ml
