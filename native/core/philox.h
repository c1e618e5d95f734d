#pragma once
// Random words by counter, the same on every device and for any number of threads: Philox4x32-10
// (Salmon et al. 2011).

#include <cstdint>

#include "core/half.h"

namespace ml {

// What random words are for: with one seed, each use has words of its own.
enum class RandomUse : uint8_t { fill, dropout, sampling };

// Steps of random operations are less, and leave the upper bits of their counter to the use.
inline constexpr int64_t kMaxRandomStep = int64_t{1} << 53;

struct Random4 {
  uint32_t word[4];
};

ML_HOST_DEVICE inline Random4 philox(uint64_t counter, uint64_t key, RandomUse use,
                                     uint64_t step = 0) {
  uint32_t c0 = static_cast<uint32_t>(counter), c1 = static_cast<uint32_t>(counter >> 32),
           c2 = static_cast<uint32_t>(step),
           c3 = static_cast<uint32_t>(step >> 32) | static_cast<uint32_t>(use) << 24;
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

}  // namespace ml
