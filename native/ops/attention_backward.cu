// Gradients of attention (ops/attention.h): D for each query, then dq by tiles of queries and dk
// and dv by tiles of keys, which compute the weights again (Dao et al. 2022). Every sum has one
// owner and one order.

#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "ops/attention.h"
#include "ops/attention_tile.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

struct BackwardArgs {
  float *dq, *dk, *dv;
  const float *lse, *D;        // [B, H, T]
  Operand<float> q, k, v, dy;  // all heads: a run is one of the first head
  AttentionSizes n;
  float scale;
  bool vec16;  // of the gradients
};

template <int kWidth>
using Tile = AttentionTile<kWidth, kAttentionBackwardRows<kWidth>>;

template <int kWidth>
struct BackwardShared {
  typename Tile<kWidth>::Rows first, second;  // q and dy, or k and v
  typename Tile<kWidth>::Scores scores;
  typename Tile<kWidth>::Stage ring[kStages];
};

// One warp computes D of one query.
__global__ void __launch_bounds__(kThreads)
    attention_dot_kernel(Guard guard, float* D, const float* dy, const float* y, AttentionSizes n) {
  if (guard.aborted()) return;
  // [0, B * H * T)
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kThreads / kWarp) + warp_of_block();
  if (row < n.B * n.H * n.T) {
    const int64_t at = n.query(row / n.T / n.H, row % n.T, row / n.T % n.H);
    float sum = 0;
    for (int c = lane(); c < n.d; c += kWarp) sum = fmaf(dy[at + c], y[at + c], sum);
    sum = warp_sum(sum);
    if (lane() == 0) D[row] = sum;
  }
}

// p = exp(s - lse) and ds = p (dp - D), in place of the scores and of dp, of a thread's row i and
// j-th column; zero where there is no pair.
__device__ inline void score_gradient(float& s, float& dp, float scale, float lse, float D,
                                      bool seen) {
  s = seen ? expf(scale * s - lse) : 0.0f;
  dp = seen ? s * (dp - D) : 0.0f;
}

// dq of a block's tile of queries. A step of its ring is a chunk of a block of keys, which come in
// three parts: k and v for the scores and dp, then k for the sums.
template <int kWidth>
struct QueryGradients {
  using T = Tile<kWidth>;
  using Step = RingStep<T, 3>;
  const BackwardArgs& a;
  BackwardShared<kWidth>& tile;
  int64_t b, h, t0, keys;  // keys: that the last query sees
  float s[T::kPerThread][4], dp[T::kPerThread][4], dq[T::kPerThread][T::kSums];
  float lse[T::kPerThread], D[T::kPerThread];

  // blockIdx.x as in attention_kernel
  __device__ QueryGradients(const BackwardArgs& args, BackwardShared<kWidth>& shared_tile)
      : a(args), tile(shared_tile) {
    constexpr int kRows = kAttentionBackwardRows<kWidth>;
    const int64_t tiles = tiles_of(a.n.T, kRows), bh = blockIdx.x / tiles;
    b = bh / a.n.H;
    h = bh % a.n.H;
    t0 = (tiles - 1 - blockIdx.x % tiles) * kRows;
    keys = seen(a.n.T - t0 < kRows ? a.n.T - 1 : t0 + kRows - 1);
    T::fill(tile.first, from(a.q, a.n.query(b, 0, h)), a.n.d, t0, a.n.T);
    T::fill(tile.second, from(a.dy, a.n.query(b, 0, h)), a.n.d, t0, a.n.T);
    clear(dq);
#pragma unroll
    for (int i = 0; i < T::kPerThread; ++i) {
      const int64_t t = t0 + T::row(i);
      lse[i] = t < a.n.T ? a.lse[bh * a.n.T + t] : 0.0f;
      D[i] = t < a.n.T ? a.D[bh * a.n.T + t] : 0.0f;
    }
  }
  __device__ int64_t seen(int64_t t) const { return seen_keys(a.n.T, a.n.K, a.n.causal, t); }
  __device__ int64_t steps() const { return tiles_of(keys, T::kColumns) * Step::kSteps; }
  __device__ bool has_rows() const { return T::has_rows(t0, a.n.T); }

  __device__ void fill(Step at, typename T::Stage& stage) const {
    const int64_t u0 = at.block * T::kColumns;
    const Operand<float> head = from(at.part == 1 ? a.v : a.k, a.n.key(b, 0, h / a.n.group()));
    if (at.part < 2)
      T::fill_depth(stage, head, a.n.d, u0, keys, at.chunk);
    else
      T::fill_columns(stage, head, a.n.d, u0, keys, at.chunk);
  }

  __device__ void use(Step at, const typename T::Stage& stage) {
    const auto pair = [&](int i, int column) {
      return at.block * T::kColumns + column < seen(t0 + T::row(i));
    };
    if (at.part == 0 && at.chunk == 0) clear(s), clear(dp);
    if (at.part == 0) T::add_scores(s, tile.first, stage, at.chunk);
    if (at.part == 1) T::add_scores(dp, tile.second, stage, at.chunk);
    if (at.part == 1 && at.last_chunk()) {
#pragma unroll
      for (int i = 0; i < T::kPerThread; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j)
          score_gradient(s[i][j], dp[i][j], a.scale, lse[i], D[i], pair(i, T::tx() + 16 * j));
      T::store_scores(tile.scores, dp);
    }
    if (at.part == 2) T::add_columns(dq, tile.scores, stage, at.chunk, pair);
  }

  __device__ void store() const {
#pragma unroll
    for (int i = 0; i < T::kPerThread; ++i)
      if (const int64_t t = t0 + T::row(i); t < a.n.T)
        T::store_sums(a.dq + a.n.query(b, t, h), dq[i], a.scale, a.n.d, a.vec16);
  }
};

// dk and dv of a block's tile of keys, over the query heads that read them and the queries that see
// them, in order. Queries come in four parts: q and dy for the scores and dp, then dy and q for the
// sums.
template <int kWidth>
struct KeyGradients {
  using T = Tile<kWidth>;
  using Step = RingStep<T, 4>;
  const BackwardArgs& a;
  BackwardShared<kWidth>& tile;
  int64_t b, g, u0, block0, blocks;  // of the queries of a head, from the first that sees a key
  float s[T::kPerThread][4], dp[T::kPerThread][4];
  float dk[T::kPerThread][T::kSums], dv[T::kPerThread][T::kSums];

  // blockIdx.x: tile, then head, then batch
  __device__ KeyGradients(const BackwardArgs& args, BackwardShared<kWidth>& shared_tile)
      : a(args), tile(shared_tile) {
    constexpr int kRows = kAttentionBackwardRows<kWidth>;
    const int64_t tiles = tiles_of(a.n.K, kRows), bg = blockIdx.x / tiles;
    b = bg / a.n.G;
    g = bg % a.n.G;
    u0 = blockIdx.x % tiles * kRows;
    block0 = first_query(u0) / T::kColumns;
    blocks = tiles_of(a.n.T, T::kColumns) - block0;
    T::fill(tile.first, from(a.k, a.n.key(b, 0, g)), a.n.d, u0, a.n.K);
    T::fill(tile.second, from(a.v, a.n.key(b, 0, g)), a.n.d, u0, a.n.K);
    clear(dk);
    clear(dv);
  }
  // that sees key u
  __device__ int64_t first_query(int64_t u) const {
    const int64_t t = a.n.causal ? u - (a.n.K - a.n.T) : 0;
    return t < 0 ? 0 : t;
  }
  __device__ int64_t steps() const { return a.n.group() * blocks * Step::kSteps; }
  __device__ bool has_rows() const { return T::has_rows(u0, a.n.K); }
  __device__ int64_t head(Step at) const { return g * a.n.group() + at.block / blocks; }
  __device__ int64_t query0(Step at) const { return (block0 + at.block % blocks) * T::kColumns; }

  __device__ void fill(Step at, typename T::Stage& stage) const {
    const Operand<float> queries =
        from(at.part == 0 || at.part == 3 ? a.q : a.dy, a.n.query(b, 0, head(at)));
    if (at.part < 2)
      T::fill_depth(stage, queries, a.n.d, query0(at), a.n.T, at.chunk);
    else
      T::fill_columns(stage, queries, a.n.d, query0(at), a.n.T, at.chunk);
  }

  __device__ void use(Step at, const typename T::Stage& stage) {
    const int64_t t0 = query0(at);
    const auto pair = [&](int i, int column) {
      return t0 + column >= first_query(u0 + T::row(i)) && t0 + column < a.n.T;
    };
    if (at.part == 0 && at.chunk == 0) clear(s), clear(dp);
    if (at.part == 0) T::add_scores(s, tile.first, stage, at.chunk);
    if (at.part == 1) T::add_scores(dp, tile.second, stage, at.chunk);
    if (at.part == 1 && at.last_chunk()) {
      const int64_t row0 = (b * a.n.H + head(at)) * a.n.T + t0;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int column = T::tx() + 16 * j;
        const bool inside = t0 + column < a.n.T;
        const float lse = inside ? a.lse[row0 + column] : 0.0f,
                    D = inside ? a.D[row0 + column] : 0.0f;
#pragma unroll
        for (int i = 0; i < T::kPerThread; ++i)
          score_gradient(s[i][j], dp[i][j], a.scale, lse, D, pair(i, column));
      }
      T::store_scores(tile.scores, s);
    }
    if (at.part == 2) T::add_columns(dv, tile.scores, stage, at.chunk, pair);
    if (at.part == 2 && at.last_chunk()) {
      warp_sync();  // a warp reads its own rows alone
      T::store_scores(tile.scores, dp);
    }
    if (at.part == 3) T::add_columns(dk, tile.scores, stage, at.chunk, pair);
  }

  __device__ void store() const {
#pragma unroll
    for (int i = 0; i < T::kPerThread; ++i)
      if (const int64_t u = u0 + T::row(i); u < a.n.K) {
        T::store_sums(a.dk + a.n.key(b, u, g), dk[i], a.scale, a.n.d, a.vec16);
        T::store_sums(a.dv + a.n.key(b, u, g), dv[i], 1, a.n.d, a.vec16);
      }
  }
};

template <int kWidth>
__global__ void __launch_bounds__(kThreads, 1) attention_dq_kernel(Guard guard, BackwardArgs a) {
  if (guard.aborted()) return;
  auto& tile = shared<BackwardShared<kWidth>>();
  QueryGradients<kWidth> gradients(a, tile);
  walk_ring(tile.ring, gradients);
  gradients.store();
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads, 1) attention_dkv_kernel(Guard guard, BackwardArgs a) {
  if (guard.aborted()) return;
  auto& tile = shared<BackwardShared<kWidth>>();
  KeyGradients<kWidth> gradients(a, tile);
  walk_ring(tile.ring, gradients);
  gradients.store();
}

}  // namespace

void attention_backward(CudaStream& stream, const AttentionBackward& a) {
  const AttentionSizes n = attention_sizes(a);
  const int64_t queries = n.B * n.H * n.T;
  float* D = stream.scratch<float>(queries);
  const BackwardArgs args{
      .dq = a.dq.as<float>(),
      .dk = a.dk.as<float>(),
      .dv = a.dv.as<float>(),
      .lse = a.lse.as<float>(),
      .D = D,
      .q = heads_of(a.q),
      .k = heads_of(a.k),
      .v = heads_of(a.v),
      .dy = heads_of(a.dy),
      .n = n,
      .scale = a.scale,
      .vec16 = heads_of(a.dq).vec16 && heads_of(a.dk).vec16 && heads_of(a.dv).vec16};
  launch(attention_dot_kernel, dim3(blocks_for(queries, kThreads / kWarp)), dim3(kThreads), 0,
         stream, D, a.dy.as<float>(), a.y.as<float>(), n);
  with_head_width(n.d, [&]<int kWidth>(std::integral_constant<int, kWidth>) {
    constexpr int kRows = kAttentionBackwardRows<kWidth>;
    constexpr size_t kShared = sizeof(BackwardShared<kWidth>);
    launch(attention_dq_kernel<kWidth>, dim3(grid_width(n.B * n.H * tiles_of(n.T, kRows))),
           dim3(kThreads), kShared, stream, args);
    launch(attention_dkv_kernel<kWidth>, dim3(grid_width(n.B * n.G * tiles_of(n.K, kRows))),
           dim3(kThreads), kShared, stream, args);
  });
}

}  // namespace ml::ML_CUDA_NAMESPACE
