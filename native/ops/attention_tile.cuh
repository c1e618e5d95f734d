#pragma once
// A tile of attention's pairs, for its three kernels: a block has kRows rows, resident in shared
// memory, which are queries or keys, and meets the others 64 columns at a time. Columns come
// through a ring of stages, filled by cp.async: 32 of their elements at a time for scores, whole
// but fewer at a time for sums. A row's scores belong to half a warp, so its maximum and sum are
// shuffles.

#include "cuda/gemm_operand.cuh"
#include "cuda/tuning.h"
#include "ops/attention.h"

namespace ml::ML_CUDA_NAMESPACE {

// Of q [B, T, H, d] and of k [B, K, G, d].
struct AttentionSizes {
  int64_t B, T, H, K, G;
  int d;
  bool causal;
  // Where query (b, t, h), and key (b, u, g), begins.
  __host__ __device__ int64_t query(int64_t b, int64_t t, int64_t h) const {
    return ((b * T + t) * H + h) * d;
  }
  __host__ __device__ int64_t key(int64_t b, int64_t u, int64_t g) const {
    return ((b * K + u) * G + g) * d;
  }
  __host__ __device__ int64_t group() const { return H / G; }
};

template <class Args>
AttentionSizes attention_sizes(const Args& a) {
  return {.B = a.q.dim(0),
          .T = a.q.dim(1),
          .H = a.q.dim(2),
          .K = a.k.dim(1),
          .G = a.k.dim(2),
          .d = static_cast<int>(a.q.dim(3)),
          .causal = a.causal};
}

// The rows of the first head of a tensor [batch, time, heads, d].
inline Operand<float> heads_of(const View& x) {
  return {x.as<float>(), x.dim(2) * x.dim(3), widest<float>(x.as<float>(), x.dim(3)) == 4};
}
__device__ inline Operand<float> from(Operand<float> x, int64_t offset) {
  x.data += offset;
  return x;
}

__host__ __device__ constexpr int64_t tiles_of(int64_t rows, int tile) {
  return (rows + tile - 1) / tile;
}

template <int rows, int columns>
__device__ inline void clear(float (&x)[rows][columns]) {
#pragma unroll
  for (int i = 0; i < rows; ++i)
#pragma unroll
    for (int j = 0; j < columns; ++j) x[i][j] = 0;
}

// One thread has kPerThread rows and the columns tx, tx + 16, tx + 32 and tx + 48 of the scores,
// and kSums elements of each of its rows' sums. kWidth: the head's width, rounded up.
template <int kWidth, int kRows>
struct AttentionTile {
  static constexpr int kColumns = 64, kDepth = 32, kPerThread = kRows / 16;
  static constexpr int kChunks = kWidth / kDepth;      // of a block of columns, in both forms
  static constexpr int kChunkColumns = 2048 / kWidth;  // of a chunk of whole columns
  static constexpr int kSums = kWidth / 16, kVec = kSums < 4 ? kSums : 4;
  // Pitches: eight threads that read packs of four read different banks; and so do the halves of a
  // warp, whose rows are kPerThread apart, when they write scores.
  static constexpr int kPitch = kWidth + 4, kDepthPitch = kDepth + 4,
                       kScorePitch = kColumns + 16 / kPerThread;

  struct Rows {
    alignas(16) float v[kRows * kPitch];
  };
  struct Scores {
    alignas(16) float v[kRows * kScorePitch];
  };
  struct Stage {
    alignas(16) float v[kColumns * kDepthPitch];
  };
  static_assert(kChunkColumns * kWidth <= kColumns * kDepthPitch);

  using RowReader = OperandReader<float, false, kRows, kWidth, kThreads, 1>;
  using DepthReader = OperandReader<float, true, kColumns, kDepth, kThreads, 1>;
  using ColumnReader = OperandReader<float, false, kChunkColumns, kWidth, kThreads, 1>;

  static __device__ int tx() { return lane() % 16; }
  // The i-th row of the thread.
  static __device__ int row(int i) { return (warp_of_block() * 2 + lane() / 16) * kPerThread + i; }

  // Whether the warp has a row before `end`, where its tile begins at row0: else it only copies.
  static __device__ bool has_rows(int64_t row0, int64_t end) {
    return row0 + warp_of_block() * 2 * kPerThread < end;
  }

  // Rows row0 … of `from`, which has `rows`; zeros past them and past d.
  static __device__ void fill(Rows& to, const Operand<float>& from, int d, int64_t row0,
                              int64_t rows) {
    RowReader(from, 0, d, row0, rows).copy([&](int run, int at) {
      return to.v + run * kPitch + at;
    });
  }
  // A chunk of 32 elements of 64 columns.
  static __device__ void fill_depth(Stage& to, const Operand<float>& from, int d, int64_t column0,
                                    int64_t columns, int chunk) {
    DepthReader(from, column0, columns, chunk * kDepth, d).copy([&](int run, int at) {
      return to.v + run * kDepthPitch + at;
    });
  }
  // A chunk of kChunkColumns columns.
  static __device__ void fill_columns(Stage& to, const Operand<float>& from, int d, int64_t column0,
                                      int64_t columns, int chunk) {
    ColumnReader(from, 0, d, column0 + chunk * kChunkColumns, columns).copy([&](int run, int at) {
      return to.v + run * kWidth + at;
    });
  }

  // s += rows times the columns of a stage, over its chunk of the depth
  static __device__ void add_scores(float (&s)[kPerThread][4], const Rows& rows, const Stage& stage,
                                    int chunk) {
#pragma unroll 2
    for (int k = 0; k < kDepth; k += 4) {
      Pack<float, 4> column[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) column[j] = load<4>(stage.v + (tx() + 16 * j) * kDepthPitch + k);
#pragma unroll
      for (int i = 0; i < kPerThread; ++i) {
        const Pack<float, 4> x = load<4>(rows.v + row(i) * kPitch + chunk * kDepth + k);
#pragma unroll
        for (int e = 0; e < 4; ++e)
#pragma unroll
          for (int j = 0; j < 4; ++j) s[i][j] = fmaf(x.v[e], column[j].v[e], s[i][j]);
      }
    }
  }

  static __device__ void store_scores(Scores& to, const float (&s)[kPerThread][4]) {
#pragma unroll
    for (int i = 0; i < kPerThread; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) to.v[row(i) * kScorePitch + tx() + 16 * j] = s[i][j];
  }

  // sum += the weights of a chunk's columns times the columns, where seen(i, column) says that the
  // thread's row i and the column are a pair: a product with zero would be NaN for a column with
  // infinities.
  template <class Seen>
  static __device__ void add_columns(float (&sum)[kPerThread][kSums], const Scores& weights,
                                     const Stage& stage, int chunk, Seen seen) {
#pragma unroll 1
    for (int u = 0; u < kChunkColumns; u += 4) {
      const int column = chunk * kChunkColumns + u;
      Pack<float, 4> weight[kPerThread];
#pragma unroll
      for (int i = 0; i < kPerThread; ++i)
        weight[i] = load<4>(weights.v + row(i) * kScorePitch + column);
#pragma unroll
      for (int e = 0; e < 4; ++e)
#pragma unroll
        for (int g = 0; g < kSums / kVec; ++g) {
          const Pack<float, kVec> x =
              load<kVec>(stage.v + (u + e) * kWidth + g * 16 * kVec + tx() * kVec);
#pragma unroll
          for (int i = 0; i < kPerThread; ++i)
            if (seen(i, column + e)) {
#pragma unroll
              for (int c = 0; c < kVec; ++c)
                sum[i][g * kVec + c] = fmaf(weight[i].v[e], x.v[c], sum[i][g * kVec + c]);
            }
        }
    }
  }

  // to [d] = factor * the sums of the thread's row i
  static __device__ void store_sums(float* to, const float (&sum)[kSums], float factor, int d,
                                    bool vec16) {
#pragma unroll
    for (int g = 0; g < kSums / kVec; ++g) {
      const int c0 = g * 16 * kVec + tx() * kVec;
      Pack<float, kVec> x;
#pragma unroll
      for (int c = 0; c < kVec; ++c) x.v[c] = sum[g * kVec + c] * factor;
      if (vec16) {
        if (c0 < d) store<kVec>(to + c0, x);
      } else {
#pragma unroll
        for (int c = 0; c < kVec; ++c)
          if (c0 + c < d) to[c0 + c] = x.v[c];
      }
    }
  }
};

// The sum, or the maximum, over the half of a warp that a row's scores belong to.
__device__ inline float half_warp_sum(float v, CallSite site = CallSite::here()) {
#pragma unroll
  for (int bits = 8; bits > 0; bits /= 2) v += shuffle_xor(v, bits, kAllLanes, site);
  return v;
}
__device__ inline float half_warp_max(float v, CallSite site = CallSite::here()) {
#pragma unroll
  for (int bits = 8; bits > 0; bits /= 2) v = fmaxf(v, shuffle_xor(v, bits, kAllLanes, site));
  return v;
}

// A step of a block through its ring: a chunk of a part of a block of columns.
template <class Tile, int kParts>
struct RingStep {
  static constexpr int kSteps = kParts * Tile::kChunks;  // of a block of columns
  int64_t block;
  int part, chunk;
  __device__ explicit RingStep(int64_t step)
      : block(step / kSteps),
        part(static_cast<int>(step % kSteps) / Tile::kChunks),
        chunk(static_cast<int>(step % kSteps) % Tile::kChunks) {}
  __device__ bool last_chunk() const { return chunk == Tile::kChunks - 1; }
};

// All steps of `work` through the ring of kStages: fill(step, stage) starts the copies of a step,
// use(step, stage) computes with them, in the warps that have rows. Copies that were started before
// arrive with the first.
template <class Stage, class Work>
__device__ inline void walk_ring(Stage* ring, Work& work) {
  using Step = typename Work::Step;
  const int64_t steps = work.steps();
  const auto start = [&](int64_t step, int stage) {
    if (step < steps) work.fill(Step(step), ring[stage]);
    copy_async_commit();  // also an empty group: the wait counts groups
  };
  for (int step = 0; step < kStages - 1; ++step) start(step, step);
  int stage = 0;
#pragma unroll 1
  for (int64_t step = 0; step < steps; ++step) {
    copy_async_wait<kStages - 2>();
    block_sync();
    // into the stage that all threads had finished at the barrier
    start(step + kStages - 1, stage == 0 ? kStages - 1 : stage - 1);
    if (work.has_rows()) work.use(Step(step), ring[stage]);
    stage = stage == kStages - 1 ? 0 : stage + 1;
  }
  copy_async_wait<0>();
}

// Calls f with std::integral_constant of the narrowest width of a tile that a head fits.
template <class F>
void with_head_width(int64_t d, F f) {
  if (d <= 32) return f(std::integral_constant<int, 32>{});
  if (d <= 64) return f(std::integral_constant<int, 64>{});
  if (d <= 128) return f(std::integral_constant<int, 128>{});
  f(std::integral_constant<int, 256>{});
}

}  // namespace ml::ML_CUDA_NAMESPACE
