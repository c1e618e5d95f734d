#pragma once
// The k greatest of a row, kept by one warp: a sorted list of order keys (ops/topk.h), and a buffer
// of 32 that have passed the list's threshold. A full buffer is sorted in registers (bitonic,
// Batcher 1968) and merged into the list, 32 places at a time. A list is whole blocks of 32 places,
// the greatest first, 0 at an empty place; lane i keeps the places i, i + 32, … It may lie in
// shared or in global memory, and k is any number. The outcome is the exact order, however the row
// is cut.

#include "core/order.h"
#include "cuda/block.cuh"
#include "cuda/warp.cuh"

namespace ml::ML_CUDA_NAMESPACE {

// Places of a list of k.
__host__ __device__ constexpr int64_t list_room(int64_t k) {
  return (k + kWarp - 1) / kWarp * kWarp;
}

// One step of a bitonic network: lanes `bits` apart, the greater to the lower lane where
// `descending`.
__device__ inline uint64_t exchange(uint64_t key, int bits, bool descending) {
  const uint64_t other = shuffle_xor(key, bits);
  const bool takes_greater = ((lane() & bits) == 0) == descending;
  return (key > other) == takes_greater ? key : other;
}

// 32 keys that rise and then fall (or the other way round) into descending order.
__device__ inline uint64_t merge_bitonic(uint64_t key) {
#pragma unroll
  for (int bits = kWarp / 2; bits > 0; bits /= 2) key = exchange(key, bits, true);
  return key;
}

// Any 32 keys into descending order.
__device__ inline uint64_t sort_descending(uint64_t key) {
#pragma unroll
  for (int size = 2; size <= kWarp; size *= 2) {
#pragma unroll
    for (int bits = size / 2; bits > 0; bits /= 2)
      key = exchange(key, bits, (lane() & size) == 0 || size == kWarp);
  }
  return key;
}

// Puts 32 keys in descending order among the `room` places of the list; the last 32 of all fall
// out.
__device__ inline void insert_sorted(uint64_t* list, int64_t room, uint64_t key) {
  for (int64_t at = lane(); at - lane() < room; at += kWarp) {
    const uint64_t greatest = shuffle(key, 0);
    if (greatest == 0) break;
    const uint64_t own = list[at];
    if (shuffle(own, kWarp - 1) > greatest) continue;
    // own falls, the reversed keys rise: the greater of each pair are the 32 greatest of the 64.
    const uint64_t other = shuffle(key, kWarp - 1 - lane());
    list[at] = merge_bitonic(own > other ? own : other);
    key = merge_bitonic(own > other ? other : own);
  }
}

// All of another list, of as many places.
__device__ inline void insert_list(uint64_t* list, int64_t room, const uint64_t* other) {
  for (int64_t at = lane(); at - lane() < room; at += kWarp) {
    const uint64_t key = other[at];
    if (shuffle(key, 0) == 0) break;
    insert_sorted(list, room, key);
  }
}

// The state of one row between its pieces.
struct Selection {
  uint64_t* list;    // [room]
  uint64_t* buffer;  // [32], shared memory
  int64_t room, k;
  int count;           // in the buffer
  uint32_t threshold;  // bits that a key must exceed: of the k-th place

  __device__ void merge() {
    warp_sync();
    insert_sorted(list, room, sort_descending(lane() < count ? buffer[lane()] : 0));
    warp_sync();
    const uint32_t last = bits_of(list[k - 1]);
    threshold = last > threshold ? last : threshold;
    count = 0;
  }

  // 32 elements of the row, in ascending index from call to call. Later elements of equal value
  // come after those in the list, so that only a greater value gets in.
  __device__ void offer(uint32_t bits, uint32_t index) {
    bool wants = bits > threshold;
    for (uint32_t mask = ballot(wants); mask != 0; mask = ballot(wants)) {
      const int at = count + population(mask & lanes_below());
      if (wants && at < kWarp) buffer[at] = order_key(bits, index);
      count += population(mask);
      if (count < kWarp) break;
      count = kWarp;
      merge();
      wants = wants && at >= kWarp && bits > threshold;
    }
  }
};

}  // namespace ml::ML_CUDA_NAMESPACE
