#include "ops/dropout.h"

#ifdef ML_ISA
#include "cpu/rows.h"

namespace ml::cpu::ML_ISA {
namespace {

// words[4 * i + j] is word j of counter first + i: philox() of many counters, in vectors.
inline void random_words(const DropoutNumbers& a, uint64_t first, uint32_t* words) {
  uint32_t c0[kDropoutCounters], c1[kDropoutCounters], c2[kDropoutCounters], c3[kDropoutCounters];
  for (int i = 0; i < kDropoutCounters; ++i) {
    const uint64_t counter = first + static_cast<uint64_t>(i);
    const Philox start = philox_start(counter, RandomUse::dropout, a.step);
    c0[i] = start.c0;
    c1[i] = start.c1;
    c2[i] = start.c2;
    c3[i] = start.c3;
  }
  PhiloxKey key(a.seed);
  for (int round = 0; round < kPhiloxRounds; ++round, key.advance())
    for (int i = 0; i < kDropoutCounters; ++i) {
      Philox p{c0[i], c1[i], c2[i], c3[i]};
      philox_round(p, key);
      c0[i] = p.c0;
      c1[i] = p.c1;
      c2[i] = p.c2;
      c3[i] = p.c3;
    }
  for (int i = 0; i < kDropoutCounters; ++i) {
    words[4 * i] = c0[i];
    words[4 * i + 1] = c1[i];
    words[4 * i + 2] = c2[i];
    words[4 * i + 3] = c3[i];
  }
}

// Blocks begin … end of 4 * kDropoutCounters elements.
void dropout_blocks(const Dropout& a, int64_t begin, int64_t end) {
  constexpr int64_t kBlock = 4 * kDropoutCounters;
  const uint32_t threshold = dropout_threshold(a.p);
  const float scale = dropout_scale(a.p);
  const DropoutNumbers numbers =
      dropout_numbers({a.seed, a.step}, a.numbers ? a.numbers.as<uint32_t>() : nullptr);
  const int64_t size = a.x.size();
  for (int64_t b = begin; b < end; ++b) {
    uint32_t words[kBlock];
    random_words(numbers, static_cast<uint64_t>(b * kDropoutCounters), words);
    const float* x = a.x.as<float>() + b * kBlock;
    float* out = a.out.as<float>() + b * kBlock;
    const int64_t count = size - b * kBlock < kBlock ? size - b * kBlock : kBlock;
    for (int64_t i = 0; i < count; ++i) {
      const float scaled = x[i] * scale;
      out[i] = words[i] < threshold ? 0.0f : scaled;
    }
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include <algorithm>

#include "cpu/tuning.h"

#define ML_ISA_SOURCE "ops/dropout.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {

void dropout(KernelContext& ctx, const Dropout& a) {
  constexpr int64_t kBlock = 4 * kDropoutCounters;
  const auto blocks = ML_DISPATCH(dropout_blocks);
  ctx.parallel_for((a.x.size() + kBlock - 1) / kBlock, kRandomFillGrain / kDropoutCounters,
                   [&](int64_t begin, int64_t end, int) { blocks(a, begin, end); });
}

}  // namespace ml::cpu
#endif
