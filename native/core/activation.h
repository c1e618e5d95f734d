#pragma once

#include <cstdint>

namespace ml {

// gelu is the exact one: x/2 (1 + erf(x/sqrt 2))
enum class Activation : uint8_t { relu, gelu, silu, sigmoid };
constexpr int count_of(Activation) { return static_cast<int>(Activation::sigmoid) + 1; }

}  // namespace ml
