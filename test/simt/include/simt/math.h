#pragma once
// The device's arithmetic that C++ names otherwise.

#include <math.h>

#include <bit>

namespace simt::toolkit {

inline int __popc(unsigned v) { return std::popcount(v); }
inline int __ffs(int v) { return v == 0 ? 0 : std::countr_zero(static_cast<unsigned>(v)) + 1; }
inline float __uint_as_float(unsigned v) { return std::bit_cast<float>(v); }

template <class T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}

}  // namespace simt::toolkit
