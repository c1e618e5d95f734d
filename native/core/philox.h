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

inline constexpr int kPhiloxRounds = 10;

struct PhiloxKey {
  uint32_t k0, k1;
  ML_HOST_DEVICE explicit PhiloxKey(uint64_t key)
      : k0(static_cast<uint32_t>(key)), k1(static_cast<uint32_t>(key >> 32)) {}
  ML_HOST_DEVICE void advance() {
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
};

// The state of one counter: after kPhiloxRounds rounds its words.
struct Philox {
  uint32_t c0, c1, c2, c3;
};

ML_HOST_DEVICE inline Philox philox_start(uint64_t counter, RandomUse use, uint64_t step) {
  return {static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32),
          static_cast<uint32_t>(step),
          static_cast<uint32_t>(step >> 32) | static_cast<uint32_t>(use) << 24};
}

ML_HOST_DEVICE inline void philox_round(Philox& p, const PhiloxKey& key) {
  const uint64_t p0 = uint64_t{0xD2511F53u} * p.c0, p1 = uint64_t{0xCD9E8D57u} * p.c2;
  p = {static_cast<uint32_t>(p1 >> 32) ^ p.c1 ^ key.k0, static_cast<uint32_t>(p1),
       static_cast<uint32_t>(p0 >> 32) ^ p.c3 ^ key.k1, static_cast<uint32_t>(p0)};
}

ML_HOST_DEVICE inline Random4 philox(uint64_t counter, uint64_t key, RandomUse use,
                                     uint64_t step = 0) {
  Philox p = philox_start(counter, use, step);
  PhiloxKey k(key);
  for (int round = 0; round < kPhiloxRounds; ++round, k.advance()) philox_round(p, k);
  return {{p.c0, p.c1, p.c2, p.c3}};
}

// 24 bits: k / 2^24 in [0, 1)
ML_HOST_DEVICE inline float unit(uint32_t word) {
  return static_cast<float>(word >> 8) * 5.9604644775390625e-8f;
}

}  // namespace ml
