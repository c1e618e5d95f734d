#pragma once
// The second half of a product-key lookup: one warp combines the two lists of half-keys of a
// (token, head) and applies the gate. Lists of at most 32 stay in registers, longer ones in shared
// or global memory.

#include "cuda/launch.cuh"
#include "cuda/select.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"
#include "ops/product_key_lookup.h"

namespace ml::ML_CUDA_NAMESPACE {

struct Combination {
  float* scores;     // [TH, k]
  int32_t* indices;  // [TH, k]
  float* weights;    // [TH, k]
  uint64_t* lists;   // [chunks, TH, 2, list_capacity(length)], merged into those of chunk 0
  int64_t chunks;
  int64_t TH, k, n, length;  // length: min(k, n)
  Gate gate;
};

namespace {

__device__ inline float sigmoid_weight(float s) { return 1.0f / (1.0f + expf(-s)); }
__device__ inline bool is_nan_key(uint64_t key) { return bits_of(key) == 0xffffffffu; }

constexpr float kMinusInfinity = std::bit_cast<float>(0xff800000u);

// ---- Lists in registers: lane i has entry i of each

// The lists of a row, as clamped half scores, and half-keys. Past the last, scores are -Infinity.
struct HalfList {
  float score;
  uint32_t half_key;
  int count;  // the same in every lane
  bool nan;   // of the first entry
};
__device__ inline HalfList load_list(const Combination& a, int64_t row) {
  const uint64_t* list = a.lists + row * kWarp;
  uint64_t key = list[lane()];
  for (int64_t c = 1; c < a.chunks; ++c) {
    const uint64_t other = list[c * 2 * a.TH * kWarp + kWarp - 1 - lane()];
    key = merge_bitonic(key > other ? key : other);
  }
  return {.score = key != 0 ? clamp_finite(from_ordered_bits(bits_of(key))) : kMinusInfinity,
          .half_key = index_of(key),
          .count = popcount(ballot(key != 0)),
          .nan = any(is_nan_key(key))};
}

// A sum of two half scores as ordered bits (core/order.h); it is not -0, as no half is, nor NaN.
__device__ inline uint32_t plain_bits(float score) {
  const auto bits = std::bit_cast<int32_t>(score);
  return static_cast<uint32_t>(bits) ^ (static_cast<uint32_t>(bits >> 31) | 0x80000000u);
}

// Whether no sum of a pair overflows, and none is NaN. It is what nearly all lists are.
__device__ inline bool sums_are_plain(const HalfList& list) {
  return !any(lane() < list.count && !(fabsf(list.score) <= 1e38f));
}

// What the selection gives: of each winner its position in the first list * 64 + that in the
// second.
struct Winners {
  uint32_t pairs[kWarp];
};

// Selects `count` pairs in order, each of the largest candidate, of equal ones that of the first
// row, where there are so many. kPlain: sums_are_plain of both lists; others are clamped, and NaN
// counts as the largest number.
template <bool kPlain>
__device__ inline void select_in_registers(const HalfList& first, const HalfList& second, int count,
                                           Winners& winners) {
  uint32_t next = static_cast<uint32_t>(lane()) * 64;  // the row's next pair
  [[maybe_unused]] const uint32_t end = next + static_cast<uint32_t>(second.count);
  const auto candidate_of = [&](float score) {
    const float sum = first.score + score;
    if constexpr (kPlain) return plain_bits(sum);
    constexpr float kMaxFinite = 3.402823466e38f;
    const bool inside = lane() < first.count && next < end;
    return inside ? plain_bits(fmaxf(fminf(sum, kMaxFinite), -kMaxFinite)) : 0;
  };
  const uint32_t below = lanes_below();
  uint32_t candidate = candidate_of(shuffle(second.score, 0));
  // In rounds of four: more than `count` are selected, and lanes take only those. A shuffle takes
  // the lane of `next` modulo 32; a row that has had 32 pairs is the last winner's.
#pragma unroll 1
  for (int round = 0; round < count; round += 4) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const bool best = candidate == reduce_max(candidate);
      const uint32_t all_best = ballot(best);
      const bool wins = best & ((all_best & below) == 0);
      if (wins) winners.pairs[round + r] = next;
      next += wins ? 1 : 0;
      const uint32_t own = candidate_of(shuffle(second.score, static_cast<int>(next)));
      candidate = wins ? own : candidate;
    }
  }
  warp_sync();
}

// Combines two lists of at most 32; k <= 32.
__global__ void __launch_bounds__(kCombineWarps* kWarp, kCombineMinBlocks)
    combine_short_kernel(Guard guard, Combination a) {
  if (guard.aborted()) return;
  // [0, TH) and past it
  const int64_t th = static_cast<int64_t>(blockIdx.x) * kCombineWarps + warp_of_block();
  if (th >= a.TH) return;  // whole warps
  const HalfList first = load_list(a, th * 2), second = load_list(a, th * 2 + 1);
  const int pairs = first.count * second.count, found = a.k < pairs ? static_cast<int>(a.k) : pairs;
  Winners& winners = shared<Winners[kCombineWarps]>()[warp_of_block()];
  if (sums_are_plain(first) && sums_are_plain(second))
    select_in_registers<true>(first, second, found, winners);
  else
    select_in_registers<false>(first, second, found, winners);
  const uint32_t pair = lane() < found ? winners.pairs[lane()] : 0;
  const int i = static_cast<int>(pair / 64), j = static_cast<int>(pair % 64);
  const float s = pair_score(shuffle(first.score, i), shuffle(second.score, j));
  const uint32_t row = shuffle(first.half_key, i), column = shuffle(second.half_key, j);
  const bool wins = lane() < found;
  float weight = 0;
  if (a.gate == Gate::softmax) {
    const float max = shuffle(s, 0);
    const float power = wins ? expf(s - max) : 0;
    const float sum = warp_sum(power);
    if (wins) weight = power / sum;
  } else if (wins) {
    weight = gate_weight(a.gate, s, sigmoid_weight);
  }
  if (lane() >= a.k) return;
  const int64_t at = th * a.k + lane();
  a.scores[at] = wins ? s : std::bit_cast<float>(0xff800000u);
  a.indices[at] = wins ? static_cast<int32_t>(row * static_cast<uint32_t>(a.n) + column) : -1;
  a.weights[at] = first.nan || second.nan ? std::bit_cast<float>(0x7fc00000u) : weight;
}

// ---- Lists in memory

// The workspace of a warp: the two half lists as clamped scores; for each position i of the first
// list the next position of the second (the frontier); and the winners.
struct Frontier {
  float* half[2];        // [length]
  uint32_t* candidates;  // [length]: ordered bits of half[0][i] + half[1][next[i]], 0 past the end
  int32_t* next;         // [length]
  // [k]: position in the first list << 16 | in the second; then bits of the score, then
  // of the weight
  uint32_t* winners;

  static __host__ __device__ constexpr int64_t bytes(int64_t length, int64_t k) {
    return length * 16 + k * 4;
  }
  __device__ Frontier(char* workspace, int64_t length) {
    half[0] = reinterpret_cast<float*>(workspace);
    half[1] = half[0] + length;
    candidates = reinterpret_cast<uint32_t*>(half[1] + length);
    next = reinterpret_cast<int32_t*>(candidates + length);
    winners = reinterpret_cast<uint32_t*>(next + length);
  }
};

// The best of this lane's rows i = lane, lane + 32, …: its candidate, and its row, the
// first among equals.
struct Best {
  uint32_t bits, row;
};
__device__ inline Best best_of_lane(const Frontier& f, int64_t rows) {
  Best best{0, 0xffffffffu};
  for (int64_t i = lane(); i < rows; i += kWarp)
    if (f.candidates[i] > best.bits) best = {f.candidates[i], static_cast<uint32_t>(i)};
  return best;
}

// The best k pairs in order: each step selects the largest candidate, of equal ones that of the
// first row, and advances its row. Scores descend along both lists, so no pair is missed. Returns
// the number of pairs.
__device__ inline int64_t select_pairs(const Frontier& f, int64_t rows, int64_t columns,
                                       int64_t k) {
  Best best = best_of_lane(f, rows);
  int64_t found = 0;
  for (; found < k; ++found) {
    const uint32_t top = reduce_max(best.bits);
    if (top == 0) break;
    const uint32_t row = reduce_min(best.bits == top ? best.row : 0xffffffffu);
    if (best.bits == top && best.row == row) {
      const int32_t j = f.next[row];
      f.winners[found] = row << 16 | static_cast<uint32_t>(j);
      f.next[row] = j + 1;
      f.candidates[row] =
          j + 1 < columns ? ordered_bits(pair_score(f.half[0][row], f.half[1][j + 1])) : 0;
      best = best_of_lane(f, rows);
    }
  }
  warp_sync();
  return found;
}

// weights[r] of the `found` winners, which are scores here, and zeros after them. One lane has
// r = lane, lane + 32, …
__device__ inline void write_weights(Gate gate, const Frontier& f, int64_t found, int64_t k,
                                     bool nan, float max, float* weights) {
  float sum = 0;
  for (int64_t r = lane(); r < found; r += kWarp) {
    const float s = std::bit_cast<float>(f.winners[r]),
                w = gate == Gate::softmax ? expf(s - max) : gate_weight(gate, s, sigmoid_weight);
    f.winners[r] = std::bit_cast<uint32_t>(w);
    sum += w;
  }
  if (gate == Gate::softmax) sum = warp_sum(sum);
  for (int64_t r = lane(); r < k; r += kWarp) {
    const float w = r < found ? std::bit_cast<float>(f.winners[r]) : 0.0f;
    weights[r] = nan ? std::bit_cast<float>(0x7fc00000u)
                     : (gate == Gate::softmax && r < found ? w / sum : w);
  }
}

// The list of a row, with those of all chunks merged into it.
__device__ inline const uint64_t* merged_list(const Combination& a, int64_t row) {
  const int64_t capacity = list_capacity(a.length);
  uint64_t* list = a.lists + row * capacity;
  for (int64_t c = 1; c < a.chunks; ++c)
    insert_list(list, capacity, list + c * 2 * a.TH * capacity);
  return list;
}

// One warp combines the two lists of every (gridDim.x * kCombineWarps)-th (token, head).
// workspace: Frontier::bytes for each warp of the grid, or nullptr for shared memory.
__global__ void __launch_bounds__(kCombineWarps* kWarp, kCombineMinBlocks)
    combine_kernel(Guard guard, Combination a, char* workspace) {
  if (guard.aborted()) return;
  const int64_t warps = static_cast<int64_t>(gridDim.x) * kCombineWarps;
  const int64_t warp = static_cast<int64_t>(blockIdx.x) * kCombineWarps + warp_of_block();
  const int64_t bytes = Frontier::bytes(a.length, a.k);
  const Frontier f(workspace ? workspace + warp * bytes : shared_bytes() + warp_of_block() * bytes,
                   a.length);
  for (int64_t th = warp; th < a.TH; th += warps) {
    const uint64_t* lists[2] = {merged_list(a, th * 2), merged_list(a, th * 2 + 1)};
    int64_t counts[2] = {0, 0};
#pragma unroll
    for (int p = 0; p < 2; ++p) {
      for (int64_t base = 0; base < a.length; base += kWarp) {
        const int64_t i = base + lane();
        const uint64_t key = i < a.length ? lists[p][i] : 0;
        if (key != 0) f.half[p][i] = clamp_finite(from_ordered_bits(bits_of(key)));
        counts[p] += popcount(ballot(key != 0));
      }
    }
    warp_sync();
    const bool nan = is_nan_key(lists[0][0]) || is_nan_key(lists[1][0]);
    for (int64_t i = lane(); i < counts[0]; i += kWarp) {
      f.candidates[i] = counts[1] > 0 ? ordered_bits(pair_score(f.half[0][i], f.half[1][0])) : 0;
      f.next[i] = 0;
    }
    float* scores = a.scores + th * a.k;
    int32_t* indices = a.indices + th * a.k;
    const int64_t found = select_pairs(f, counts[0], counts[1], a.k);
    for (int64_t r = lane(); r < a.k; r += kWarp) {
      float score = std::bit_cast<float>(0xff800000u);
      int32_t index = -1;
      if (r < found) {
        const uint32_t i = f.winners[r] >> 16, j = f.winners[r] & 0xffffu;
        score = pair_score(f.half[0][i], f.half[1][j]);
        index = static_cast<int32_t>(index_of(lists[0][i]) * static_cast<uint32_t>(a.n) +
                                     index_of(lists[1][j]));
        f.winners[r] = std::bit_cast<uint32_t>(score);
      }
      scores[r] = score;
      indices[r] = index;
    }
    write_weights(a.gate, f, found, a.k, nan,
                  found > 0 ? pair_score(f.half[0][0], f.half[1][0]) : 0, a.weights + th * a.k);
    warp_sync();  // before the next lists overwrite the workspace
  }
}

void combine(CudaStream& stream, const Combination& c) {
  if (c.k <= kWarp)
    return launch(combine_short_kernel, dim3(blocks_for(c.TH, kCombineWarps)),
                  dim3(kCombineWarps * kWarp), sizeof(Winners[kCombineWarps]), stream, c);
  const size_t bytes = kCombineWarps * static_cast<size_t>(Frontier::bytes(c.length, c.k));
  int64_t blocks = blocks_for(c.TH, kCombineWarps);
  char* workspace = nullptr;
  if (bytes > kCombineSharedBytes) {
    const int64_t max_blocks =
        stream.limits().multiprocessors * kCombineWarpsPerMultiprocessor / kCombineWarps;
    if (blocks > max_blocks) blocks = max_blocks;
    workspace = stream.scratch<char>(blocks * static_cast<int64_t>(bytes));
  }
  launch(combine_kernel, dim3(static_cast<unsigned>(blocks)), dim3(kCombineWarps * kWarp),
         workspace ? 0 : bytes, stream, c, workspace);
}

}  // namespace
}  // namespace ml::ML_CUDA_NAMESPACE
