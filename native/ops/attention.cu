// Attention (ops/attention.h): a block has a tile of queries of one head, walks the keys that they
// see, 64 at a time, and keeps running maxima and sums (Dao et al. 2022).

#include "ops/attention.h"

#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "ops/attention_tile.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

struct AttentionArgs {
  float *y, *lse;
  Operand<float> q, k, v;  // all heads: a run is one of the first head
  AttentionSizes n;
  float scale;
  bool vec16;  // of y
};

template <int kWidth>
using Tile = AttentionTile<kWidth, kAttentionQueries<kWidth>>;

template <int kWidth>
struct AttentionShared {
  typename Tile<kWidth>::Rows queries;
  typename Tile<kWidth>::Scores weights;
  typename Tile<kWidth>::Stage ring[kStages];
};

// y of a block's tile of queries. A step of its ring is a chunk of a block of keys: k for the
// scores, then v for the sums.
template <int kWidth>
struct QueryTile {
  using T = Tile<kWidth>;
  using Step = RingStep<T, 2>;
  const AttentionArgs& a;
  AttentionShared<kWidth>& tile;
  int64_t b, h, t0, keys;  // keys: that the last query sees
  float s[T::kPerThread][4], y[T::kPerThread][T::kSums];
  float max[T::kPerThread], total[T::kPerThread];  // of the scores so far, and of exp(score - max)

  // blockIdx.x: tile, the last one first, since it sees the most keys, then head, then batch
  __device__ QueryTile(const AttentionArgs& args, AttentionShared<kWidth>& shared_tile)
      : a(args), tile(shared_tile) {
    constexpr int kRows = kAttentionQueries<kWidth>;
    const int64_t tiles = tiles_of(a.n.T, kRows), bh = blockIdx.x / tiles;
    b = bh / a.n.H;
    h = bh % a.n.H;
    t0 = (tiles - 1 - blockIdx.x % tiles) * kRows;
    keys = seen(a.n.T - t0 < kRows ? a.n.T - 1 : t0 + kRows - 1);
    T::fill(tile.queries, from(a.q, a.n.query(b, 0, h)), a.n.d, t0, a.n.T);
    clear(y);
#pragma unroll
    for (int i = 0; i < T::kPerThread; ++i) max[i] = -INFINITY, total[i] = 0;
  }
  __device__ int64_t seen(int64_t t) const { return seen_keys(a.n.T, a.n.K, a.n.causal, t); }
  __device__ int64_t steps() const { return tiles_of(keys, T::kColumns) * Step::kSteps; }
  __device__ bool has_rows() const { return T::has_rows(t0, a.n.T); }

  __device__ void fill(Step at, typename T::Stage& stage) const {
    const int64_t u0 = at.block * T::kColumns, head = a.n.key(b, 0, h / a.n.group());
    if (at.part == 0)
      T::fill_depth(stage, from(a.k, head), a.n.d, u0, keys, at.chunk);
    else
      T::fill_columns(stage, from(a.v, head), a.n.d, u0, keys, at.chunk);
  }

  __device__ void use(Step at, const typename T::Stage& stage) {
    const auto pair = [&](int i, int column) {
      return at.block * T::kColumns + column < seen(t0 + T::row(i));
    };
    if (at.part == 1) return T::add_columns(y, tile.weights, stage, at.chunk, pair);
    if (at.chunk == 0) clear(s);
    T::add_scores(s, tile.queries, stage, at.chunk);
    if (!at.last_chunk()) return;
    update_softmax(pair);
    T::store_scores(tile.weights, s);
  }

  // Scores become weights. pair(i, column): whether row i sees it.
  template <class Pair>
  __device__ void update_softmax(Pair pair) {
#pragma unroll
    for (int i = 0; i < T::kPerThread; ++i) {
      float next = max[i];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        s[i][j] *= a.scale;
        if (pair(i, T::tx() + 16 * j)) next = fmaxf(next, s[i][j]);
      }
      next = half_warp_max(next);
      // where there is nothing but -Inf yet, that weighs nothing, whatever comes
      const float shift = next == -INFINITY ? 0.0f : next, rescale = expf(max[i] - shift);
      float sum = 0;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        s[i][j] = pair(i, T::tx() + 16 * j) ? expf(s[i][j] - shift) : 0.0f;
        sum += s[i][j];
      }
      total[i] = total[i] * rescale + half_warp_sum(sum);
      max[i] = next;
#pragma unroll
      for (int c = 0; c < T::kSums; ++c) y[i][c] *= rescale;
    }
  }

  __device__ void store() const {
#pragma unroll
    for (int i = 0; i < T::kPerThread; ++i)
      if (const int64_t t = t0 + T::row(i); t < a.n.T) {
        T::store_sums(a.y + a.n.query(b, t, h), y[i], seen(t) == 0 ? 0.0f : 1 / total[i], a.n.d,
                      a.vec16);
        if (T::tx() == 0) a.lse[(b * a.n.H + h) * a.n.T + t] = max[i] + logf(total[i]);
      }
  }
};

template <int kWidth>
__global__ void __launch_bounds__(kThreads, 1) attention_kernel(Guard guard, AttentionArgs a) {
  if (guard.aborted()) return;
  auto& tile = shared<AttentionShared<kWidth>>();
  QueryTile<kWidth> queries(a, tile);
  walk_ring(tile.ring, queries);
  queries.store();
}

}  // namespace

void attention(CudaStream& stream, const Attention& a) {
  const AttentionSizes n = attention_sizes(a);
  const AttentionArgs args{.y = a.y.as<float>(),
                           .lse = a.lse.as<float>(),
                           .q = heads_of(a.q),
                           .k = heads_of(a.k),
                           .v = heads_of(a.v),
                           .n = n,
                           .scale = a.scale,
                           .vec16 = heads_of(a.y).vec16};
  with_head_width(n.d, [&]<int kWidth>(std::integral_constant<int, kWidth>) {
    const int64_t tiles = tiles_of(n.T, kAttentionQueries<kWidth>);
    launch(attention_kernel<kWidth>, dim3(grid_width(n.B * n.H * tiles)), dim3(kThreads),
           sizeof(AttentionShared<kWidth>), stream, args);
  });
}

}  // namespace ml::ML_CUDA_NAMESPACE
