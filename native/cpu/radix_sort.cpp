#include "cpu/radix_sort.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "cpu/prefetch.h"
#include "cpu/tuning.h"

namespace ml::cpu {
namespace {

// Bits that hold every number below `limit`.
int bits_below(int64_t limit) {
  return std::bit_width(static_cast<uint64_t>(std::max<int64_t>(limit, 1) - 1));
}

// Keys are distinct, so any sort of them is the stable one.
template <class Key>
void insertion_sort(Key* keys, int64_t n) {
  for (int64_t i = 1; i < n; ++i) {
    const Key key = keys[i];
    int64_t at = i;
    for (; at > 0 && keys[at - 1] > key; --at) keys[at] = keys[at - 1];
    keys[at] = key;
  }
}

// Moves n keys to the positions that the counters of their digits hold.
template <class Key>
void scatter(const Key* from, Key* to, int64_t n, int shift, Key mask, uint32_t* next) {
  for (int64_t i = 0; i < n; ++i) {
    const Key key = from[i];
    to[next[key >> shift & mask]++] = key;
  }
}

// Sorts by `passes` digits of `bits` each, from bit `lowest` on.
template <int passes, class Key>
Key* sort_digits(Key* keys, Key* buffer, int64_t n, int lowest, int bits) {
  for (int64_t i = 0; i < n; i += kCacheLine / static_cast<int64_t>(sizeof(Key)))
    prefetch_for_write(buffer + i);
  const int64_t digits = int64_t{1} << bits;
  const Key mask = static_cast<Key>(digits - 1);
  uint32_t counts[passes][1 << kMaxRadixDigitBits];
  for (int p = 0; p < passes; ++p)
    std::memset(counts[p], 0, static_cast<size_t>(digits) * sizeof(uint32_t));
  for (int64_t i = 0; i < n; ++i)
    for (int p = 0; p < passes; ++p) ++counts[p][keys[i] >> (lowest + p * bits) & mask];
  for (int p = 0; p < passes; ++p) {
    uint32_t sum = 0;
    for (int64_t d = 0; d < digits; ++d) sum += std::exchange(counts[p][d], sum);
    scatter(keys, buffer, n, lowest + p * bits, mask, counts[p]);
    std::swap(keys, buffer);
  }
  return keys;
}

}  // namespace

RadixPlan::RadixPlan(int64_t n, int64_t limit) {
  const int width = bits_below(limit);
  bucket_bits_ = std::min({width, kMaxBucketBits, bits_below(n / kRadixBucketKeys)});
  lower_bits_ = width - bucket_bits_;
  position_bits_ = bits_below(n);
  passes_ = (lower_bits_ + kMaxRadixDigitBits - 1) / kMaxRadixDigitBits;
  digit_bits_ = passes_ > 0 ? (lower_bits_ + passes_ - 1) / passes_ : 0;
}

template <class Key>
Key* RadixPlan::sort_bucket(Key* keys, Key* buffer, int64_t n) const {
  if (n <= kInsertionSortKeys) {
    insertion_sort(keys, n);
    return keys;
  }
  switch (passes_) {
    case 0: return keys;
    case 1: return sort_digits<1>(keys, buffer, n, position_bits_, digit_bits_);
    case 2: return sort_digits<2>(keys, buffer, n, position_bits_, digit_bits_);
    case 3: return sort_digits<3>(keys, buffer, n, position_bits_, digit_bits_);
    default: return sort_digits<4>(keys, buffer, n, position_bits_, digit_bits_);
  }
}

template uint32_t* RadixPlan::sort_bucket(uint32_t*, uint32_t*, int64_t) const;
template uint64_t* RadixPlan::sort_bucket(uint64_t*, uint64_t*, int64_t) const;

}  // namespace ml::cpu
