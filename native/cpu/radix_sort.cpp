#include "cpu/radix_sort.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace ml::cpu {
namespace {

constexpr int kMostBits = 11;               // 2048 counters: L1
constexpr int64_t kSmallest = 1 << 14;      // pairs for which a second thread pays
constexpr int64_t kBatch = 128;             // pairs whose places are found before any is written
constexpr int kUnrolled = 8;

// Moves pairs begin … end to where the counters say. First the places of a batch, then its writes, several loads before their stores:
// a load that follows a store to a place just computed would wait for it.
void scatter(const Pair* from, Pair* to, int64_t begin, int64_t end, int shift, uint64_t mask, uint32_t* next) {
  uint32_t place[kBatch];
  for (int64_t b = begin; b < end; b += kBatch) {
    const int64_t count = std::min(kBatch, end - b);
    for (int64_t i = 0; i < count; ++i) place[i] = next[(from[b + i] >> shift) & mask]++;
    int64_t i = 0;
    for (; i + kUnrolled <= count; i += kUnrolled) {
      Pair pair[kUnrolled];
      uint32_t at[kUnrolled];
      for (int k = 0; k < kUnrolled; ++k) {
        pair[k] = from[b + i + k];
        at[k] = place[i + k];
      }
      for (int k = 0; k < kUnrolled; ++k) to[at[k]] = pair[k];
    }
    for (; i < count; ++i) to[place[i]] = from[b + i];
  }
}

// One pass: a digit of `bits` bits at `shift`. counts: room for chunks * 2^bits.
void pass(Context& ctx, const Pair* from, Pair* to, int64_t n, int shift, int bits, int64_t chunks, uint32_t* counts) {
  const int64_t digits = int64_t{1} << bits;
  const uint64_t mask = static_cast<uint64_t>(digits - 1);
  const int64_t size = (n + chunks - 1) / chunks;
  std::memset(counts, 0, static_cast<size_t>(chunks * digits) * sizeof(uint32_t));
  ctx.parallel_for(chunks, 1, [&](int64_t c, int64_t, int) {
    uint32_t* own = counts + c * digits;
    for (int64_t i = c * size; i < std::min(n, (c + 1) * size); ++i) ++own[(from[i] >> shift) & mask];
  });
  uint32_t sum = 0;
  for (int64_t d = 0; d < digits; ++d) {
    for (int64_t c = 0; c < chunks; ++c) {
      const uint32_t count = counts[c * digits + d];
      counts[c * digits + d] = sum;
      sum += count;
    }
  }
  ctx.parallel_for(chunks, 1, [&](int64_t c, int64_t, int) {
    scatter(from, to, c * size, std::min(n, (c + 1) * size), shift, mask, counts + c * digits);
  });
}

}  // namespace

Pair* radix_sort(Context& ctx, Pair* pairs, Pair* other, int64_t n, int64_t limit) {
  const int width = std::max(1, static_cast<int>(std::bit_width(static_cast<uint64_t>(std::max<int64_t>(1, limit - 1)))));
  const int passes = (width + kMostBits - 1) / kMostBits;
  const int bits = (width + passes - 1) / passes;
  const int64_t chunks = std::clamp<int64_t>(n / kSmallest, 1, ctx.threads());
  uint32_t* counts = ctx.scratch<uint32_t>(chunks << bits);
  for (int p = 0; p < passes; ++p) {
    pass(ctx, pairs, other, n, 32 + p * bits, bits, chunks, counts);
    std::swap(pairs, other);
  }
  return pairs;
}

}  // namespace ml::cpu
