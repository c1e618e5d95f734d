// Product-key lookup (ops/product_key_lookup.h): half_lists.cuh finds the best half-keys, then one
// warp combines the two lists of a (token, head) and applies the gate.

#include "ops/product_key_lookup.h"

#include "ops/bfloat16_operand.cuh"
#include "ops/half_lists.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

struct Combination {
  float* scores;             // [TH, k]
  int32_t* indices;          // [TH, k]
  float* weights;            // [TH, k]
  const uint64_t* lists;     // [TH, 2, list_capacity(length)]
  int64_t TH, k, n, length;  // length: min(k, n)
  Gate gate;
};

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
  const auto sigmoid = [](float s) { return 1.0f / (1.0f + expf(-s)); };
  float sum = 0;
  for (int64_t r = lane(); r < found; r += kWarp) {
    const float s = std::bit_cast<float>(f.winners[r]),
                w = gate == Gate::softmax ? expf(s - max) : gate_weight(gate, s, sigmoid);
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

// One warp combines the two lists of every (gridDim.x * kCombineWarps)-th (token, head).
// workspace: Frontier::bytes for each warp of the grid, or nullptr for shared memory.
__global__ void __launch_bounds__(kCombineWarps* kWarp, kCombineMinBlocks)
    combine_kernel(Guard guard, Combination a, char* workspace) {
  if (guard.aborted()) return;
  const int64_t warps = static_cast<int64_t>(gridDim.x) * kCombineWarps;
  const int64_t warp = static_cast<int64_t>(blockIdx.x) * kCombineWarps + warp_of_block();
  const int64_t bytes = Frontier::bytes(a.length, a.k), capacity = list_capacity(a.length);
  const Frontier f(workspace ? workspace + warp * bytes : shared_bytes() + warp_of_block() * bytes,
                   a.length);
  for (int64_t th = warp; th < a.TH; th += warps) {
    const uint64_t* lists[2] = {a.lists + th * 2 * capacity, a.lists + (th * 2 + 1) * capacity};
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
    const bool nan = bits_of(lists[0][0]) == 0xffffffffu || bits_of(lists[1][0]) == 0xffffffffu;
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

}  // namespace

void product_key_lookup(CudaStream& stream, const ProductKeyLookup& args) {
  ProductKeyLookup a = args;
  if (a.compute == Compute::bfloat16) {
    round_operands(stream, {&a.query, &a.keys});
  }
  const int64_t T = a.query.dim(0), H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2),
                k = a.scores.dim(2);
  if (T == 0 || H == 0) return;
  const int64_t length = k < n ? k : n;
  const HalfLists half{.lists = nullptr,
                       .mask = a.mask ? a.mask.as<uint8_t>() : nullptr,
                       .T = T,
                       .H = H,
                       .n = n,
                       .d = d,
                       .k = length,
                       .chunk = n};
  const uint64_t* lists = nullptr;
  dispatch_float(a.query.dtype, [&](auto t) {
    lists = half_lists(stream, a.query.as<decltype(t)>(), a.keys.as<decltype(t)>(), half);
  });
  const Combination c{.scores = a.scores.as<float>(),
                      .indices = a.indices.as<int32_t>(),
                      .weights = a.weights.as<float>(),
                      .lists = lists,
                      .TH = T * H,
                      .k = k,
                      .n = n,
                      .length = length,
                      .gate = a.gate};
  const size_t bytes = kCombineWarps * static_cast<size_t>(Frontier::bytes(length, k));
  int64_t blocks = blocks_for(T * H, kCombineWarps);
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

}  // namespace ml::ML_CUDA_NAMESPACE
