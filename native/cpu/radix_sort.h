#pragma once
// A stable sort of positions by index. The upper bits of an index partition the positions, in their
// order, into buckets that fit L1d; each bucket is then sorted by itself by the lower bits, least
// significant digit first. Within a bucket an element is a key: the lower bits of the index above
// the position, in 32 bits where both fit.

#include <cstdint>

#include "cpu/tuning.h"

namespace ml::cpu {

// What each bit of an index below `limit` is used for when the positions below n are sorted.
class RadixPlan {
 public:
  static constexpr int kMaxBucketBits = kMaxRadixBucketBits;

  RadixPlan(int64_t n, int64_t limit);

  // keys fit uint32_t; else uint64_t
  bool narrow() const { return lower_bits_ + position_bits_ <= 32; }
  int64_t buckets() const { return int64_t{1} << bucket_bits_; }
  // Below buckets(), even for an index that is not below the limit.
  uint32_t bucket_of(uint32_t index) const {
    return index >> lower_bits_ & ((uint32_t{1} << bucket_bits_) - 1);
  }
  template <class Key>
  Key key_of(uint32_t index, uint32_t position) const {
    return static_cast<Key>(index & ((uint32_t{1} << lower_bits_) - 1)) << position_bits_ |
           static_cast<Key>(position);
  }
  int position_bits() const { return position_bits_; }
  template <class Key>
  uint32_t lower_of(Key key) const {  // bits of the index
    return static_cast<uint32_t>(key >> position_bits_);
  }
  template <class Key>
  uint32_t position_of(Key key) const {
    return static_cast<uint32_t>(key & ((Key{1} << position_bits_) - 1));
  }
  uint32_t index_of(uint32_t bucket, uint32_t lower) const { return bucket << lower_bits_ | lower; }

  // Sorts the n keys of a bucket, whose positions ascend; buffer: workspace for n. Returns
  // whichever of the two holds the result.
  template <class Key>
  Key* sort_bucket(Key* keys, Key* buffer, int64_t n) const;

 private:
  int bucket_bits_, lower_bits_, position_bits_;
  int passes_, digit_bits_;  // over the lower bits
};

}  // namespace ml::cpu
