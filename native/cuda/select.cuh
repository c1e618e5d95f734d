#pragma once
// The k largest of a row, found by one warp: a sorted list of order keys (core/order.h), and a
// buffer of 32 entries above the list's threshold. A full buffer is sorted in registers (bitonic
// sort, Batcher 1968) and merged into the list, 32 entries at a time. A list is blocks of 32
// entries in descending order, 0 where empty; lane i has the entries i, i + 32, … It may be in
// shared or in global memory, and k is any number. The result is the exact order, however the row
// is cut.

#include "core/order.h"
#include "cuda/block.cuh"
#include "cuda/warp.cuh"

namespace ml::ML_CUDA_NAMESPACE {

// Entries of a list of k.
__host__ __device__ constexpr int64_t list_capacity(int64_t k) {
  return (k + kWarp - 1) / kWarp * kWarp;
}

// One step of a bitonic network: lanes `bits` apart, the larger key to the lower
// lane where `descending`.
__device__ inline uint64_t exchange(uint64_t key, int bits, bool descending) {
  const uint64_t other = shuffle_xor(key, bits);
  const bool keeps_max = ((lane() & bits) == 0) == descending;
  return (key > other) == keeps_max ? key : other;
}

// The networks are functions that are called: inlined wherever they are needed, they would be most
// of a kernel's code.

// A bitonic sequence of 32 keys (ascending, then descending, or the reverse) into descending order.
[[gnu::noinline]] __device__ inline uint64_t merge_bitonic(uint64_t key) {
#pragma unroll
  for (int bits = kWarp / 2; bits > 0; bits /= 2) key = exchange(key, bits, true);
  return key;
}

// Any 32 keys into descending order.
[[gnu::noinline]] __device__ inline uint64_t sort_descending(uint64_t key) {
#pragma unroll
  for (int size = 2; size <= kWarp; size *= 2) {
#pragma unroll
    for (int bits = size / 2; bits > 0; bits /= 2)
      key = exchange(key, bits, (lane() & size) == 0 || size == kWarp);
  }
  return key;
}

__device__ inline uint64_t reversed(uint64_t key) { return shuffle(key, kWarp - 1 - lane()); }

// The 32 largest of two sets of 32 keys in descending order, themselves so.
__device__ inline uint64_t merge_sorted(uint64_t own, uint64_t key) {
  // own descends, the reversed keys ascend: the maxima of the 32 pairs are the 32 largest of 64.
  const uint64_t other = reversed(key);
  return merge_bitonic(own > other ? own : other);
}

// Merges 32 keys in descending order into the list; the smallest 32 of all are dropped.
__device__ inline void insert_sorted(uint64_t* list, int64_t capacity, uint64_t key) {
  for (int64_t at = lane(); at - lane() < capacity; at += kWarp) {
    const uint64_t max = shuffle(key, 0);
    if (max == 0) break;
    const uint64_t own = list[at];
    if (shuffle(own, kWarp - 1) > max) continue;
    const uint64_t other = reversed(key);  // as in merge_sorted
    list[at] = merge_bitonic(own > other ? own : other);
    key = merge_bitonic(own > other ? other : own);
  }
}

// Merges another list of the same capacity.
__device__ inline void insert_list(uint64_t* list, int64_t capacity, const uint64_t* other) {
  for (int64_t at = lane(); at - lane() < capacity; at += kWarp) {
    const uint64_t key = other[at];
    if (shuffle(key, 0) == 0) break;
    insert_sorted(list, capacity, key);
  }
}

// Where keys wait, in shared memory: 32 of a row.
struct KeyBuffer {
  uint64_t* keys;

  __device__ void put(int at, uint32_t bits, uint32_t index) const {
    keys[at] = order_key(bits, index);
  }
  __device__ uint64_t get(int at) const { return keys[at]; }
};
// As KeyBuffer, in six bytes a key: indices are below 2^16.
struct ShortKeyBuffer {
  uint32_t* bits;
  uint16_t* indices;

  __device__ void put(int at, uint32_t key_bits, uint32_t index) const {
    bits[at] = key_bits;
    indices[at] = static_cast<uint16_t>(index);
  }
  __device__ uint64_t get(int at) const { return order_key(bits[at], indices[at]); }
};

// The state of one row between its chunks.
template <class Buffer>
struct Selection {
  uint64_t* list;  // [capacity]
  Buffer buffer;
  int64_t capacity, k;
  int count;           // in the buffer
  uint32_t threshold;  // bits that a key must exceed: of entry k - 1

  __device__ void merge() {
    warp_sync();
    const uint64_t sorted = sort_descending(lane() < count ? buffer.get(lane()) : 0);
    warp_sync();  // before the buffer is filled again
    count = 0;
    if (capacity == kWarp) return replace(merge_sorted(list[lane()], sorted));
    insert_sorted(list, capacity, sorted);
    warp_sync();
    raise(bits_of(list[k - 1]));
  }

  // The list of at most 32, whose entry i is lane i's.
  __device__ void replace(uint64_t sorted) {
    list[lane()] = sorted;
    raise(bits_of(shuffle(sorted, static_cast<int>(k) - 1)));
  }
  __device__ void raise(uint32_t last) { threshold = last > threshold ? last : threshold; }

  // 32 elements of the row, in ascending index from call to call. Of equal values the list has the
  // earlier, so only a larger value gets in.
  __device__ void offer(uint32_t bits, uint32_t index) {
    bool selected = bits > threshold;
    for (uint32_t mask = ballot(selected); mask != 0; mask = ballot(selected)) {
      const int at = count + popcount(mask & lanes_below());
      if (selected && at < kWarp) buffer.put(at, bits, index);
      count += popcount(mask);
      if (count < kWarp) break;
      count = kWarp;
      merge();
      selected = selected && at >= kWarp && bits > threshold;
    }
  }
};

}  // namespace ml::ML_CUDA_NAMESPACE
