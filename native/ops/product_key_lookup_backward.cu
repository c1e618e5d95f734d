#include <bit>

#include "cuda/block.cuh"
#include "cuda/launch.cuh"
#include "cuda/sort.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"
#include "cuda/vec.cuh"
#include "ops/product_key_lookup.h"

// The gradient goes from the weights to the scores, and from there to the half-keys of each (token,
// head, half): winners that share a half-key are added up first, so that each half-key is gathered
// once for dquery and scattered once to dkeys. dkeys is summed key by key over a stable sort:
// ascending tokens, in one order whatever the grid.

namespace ml::ML_CUDA_NAMESPACE {
namespace {

constexpr int kWarps = kThreads / kWarp;
// greatest k whose equal half-keys are added up: the search costs k * k / 32 steps of a warp
constexpr int64_t kMostMerged = 128;
constexpr int kInFlight = 4;        // rows that a warp has asked for at once
constexpr int64_t kFewPlaces = 64;  // of a half-key on average: one warp adds them, else a block

struct Gradients {
  float* values;       // [TH, 2, k]: of the half-keys, in ascending rank of their first winner
  int32_t* half_keys;  // [TH, 2, k], -1 behind the last
  const float *dweights, *weights, *scores;  // [TH, k]
  const int32_t* indices;                    // [TH, k]
  int64_t TH, k, n;
  Gate gate;
};

struct Winners {
  float gradient[kWarps][kMostMerged];
  int32_t half_key[kWarps][2][kMostMerged];
};

// The softmax's sum of w * dw over the winners, the same in every lane.
__device__ inline float mean_of(const Gradients& a, int64_t th) {
  float sum = 0;
  for (int64_t r = lane(); r < a.k; r += kWarp)
    if (a.indices[th * a.k + r] >= 0) sum += a.weights[th * a.k + r] * a.dweights[th * a.k + r];
  return warp_sum(sum);
}

// Writes this lane's half-key behind those of the lanes before; `count` is how many there are in
// all so far.
__device__ inline void append(const Gradients& a, int64_t row, bool own, float value,
                              int32_t half_key, int64_t& count) {
  const uint32_t mask = ballot(own);
  if (own) {
    const int64_t at = row * a.k + count + population(mask & lanes_below());
    a.values[at] = value;
    a.half_keys[at] = half_key;
  }
  count += population(mask);
}

// One warp makes the half-key gradients of one (token, head). kMerge: k <= kMostMerged, and equal
// half-keys are added up.
template <bool kMerge>
__global__ void __launch_bounds__(kThreads) gradients_kernel(Guard guard, Gradients a) {
  if (guard.aborted()) return;
  // [0, TH) and past it
  const int64_t th = static_cast<int64_t>(blockIdx.x) * kWarps + warp_of_block();
  if (th >= a.TH) return;  // whole warps; there is no barrier of the block
  const float mean = a.gate == Gate::softmax ? mean_of(a, th) : 0;
  int64_t count[2] = {0, 0};
  [[maybe_unused]] const int w = warp_of_block();
  const int32_t n = static_cast<int32_t>(a.n);
  for (int64_t base = 0; base < a.k; base += kWarp) {
    const int64_t r = base + lane();
    const int32_t index = r < a.k ? a.indices[th * a.k + r] : -1;
    const int64_t at = th * a.k + r;
    const float gradient =
        index >= 0 ? score_gradient(a.gate, a.dweights[at], a.weights[at], a.scores[at], mean) : 0;
    const int32_t halves[2] = {index >= 0 ? index / n : -1, index >= 0 ? index % n : -1};
    if constexpr (kMerge) {
      Winners& s = shared<Winners>();
      if (r < a.k) {
        s.gradient[w][r] = gradient;
        s.half_key[w][0][r] = halves[0];
        s.half_key[w][1][r] = halves[1];
      }
    } else {
      append(a, th * 2, index >= 0, gradient, halves[0], count[0]);
      append(a, th * 2 + 1, index >= 0, gradient, halves[1], count[1]);
    }
  }
  if constexpr (kMerge) {
    const Winners& s = shared<Winners>();
    warp_sync();
#pragma unroll
    for (int p = 0; p < 2; ++p) {
      for (int64_t base = 0; base < a.k; base += kWarp) {
        const int64_t r = base + lane();
        const int32_t own = r < a.k ? s.half_key[w][p][r] : -1;
        bool first = own >= 0;
        float sum = 0;
        for (int64_t other = 0; other < a.k; ++other) {
          if (s.half_key[w][p][other] != own) continue;
          if (other < r) first = false;
          sum += s.gradient[w][other];
        }
        append(a, th * 2 + p, first, sum, own, count[p]);
      }
    }
  }
#pragma unroll
  for (int p = 0; p < 2; ++p)
    for (int64_t r = count[p] + lane(); r < a.k; r += kWarp)
      a.half_keys[(th * 2 + p) * a.k + r] = -1;
}

// sum += the rows rows[i] of `matrix` times factors[i], for i in [0, count) in order; count and the
// rows are the warp's, one per lane. Columns column … column + kVec - 1, where `active`.
template <int kVec, class T>
__device__ inline void add_rows(float (&sum)[kVec], const T* matrix, int64_t stride, int64_t row,
                                float factor, int count, bool active) {
  for (int i = 0; i < count; i += kInFlight) {
    Pack<T, kVec> loaded[kInFlight];
    float factors[kInFlight];
#pragma unroll
    for (int u = 0; u < kInFlight; ++u) {
      const int from = i + u < count ? i + u : i;
      factors[u] = shuffle(factor, from);
      const int64_t r = shuffle(row, from);
      loaded[u] = load_if<kVec>(active && i + u < count, matrix + r * stride);
    }
#pragma unroll
    for (int u = 0; u < kInFlight; ++u) {
      if (!active || i + u >= count) continue;
      float v[kVec];
      widen(v, loaded[u]);
#pragma unroll
      for (int e = 0; e < kVec; ++e) sum[e] = fmaf(factors[u], v[e], sum[e]);
    }
  }
}

// One warp writes one row of dquery [TH, 2, d], a slice of 32 * kVec columns at a time.
template <class T, int kVec>
__global__ void __launch_bounds__(kThreads)
    dquery_kernel(Guard guard, float* dquery, Gradients a, const T* keys, int64_t H, int64_t d) {
  if (guard.aborted()) return;
  // [0, 2 TH) and past it
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + warp_of_block();
  if (row >= 2 * a.TH) return;                         // whole warps
  const T* own_keys = keys + row % (2 * H) * a.n * d;  // (h, p) of (t, h, p)
  for (int64_t column0 = 0; column0 < d; column0 += kWarp * kVec) {
    const int64_t column = column0 + lane() * kVec;
    float sum[kVec] = {};
    for (int64_t base = 0; base < a.k; base += kWarp) {
      const int64_t at = row * a.k + base + lane();
      const int32_t half_key = base + lane() < a.k ? a.half_keys[at] : -1;
      const int count = population(ballot(half_key >= 0));
      if (count == 0) break;
      add_rows(sum, own_keys + column, d, half_key < 0 ? int64_t{0} : half_key,
               half_key < 0 ? 0.0f : a.values[at], count, column < d);
    }
    if (column < d) {
      Pack<float, kVec> out;
#pragma unroll
      for (int e = 0; e < kVec; ++e) out.v[e] = sum[e];
      store<kVec>(dquery + row * d + column, out);
    }
  }
}

// A place of the half-keys' lists in one number: row of dkeys, then row of the query, then rank.
struct PlaceBits {
  int query, rank;

  __host__ __device__ constexpr int place() const { return query + rank; }
  __device__ int64_t query_of(uint64_t pair) const {
    return static_cast<int64_t>((pair & ((uint64_t{1} << place()) - 1)) >> rank);
  }
  __device__ int64_t rank_of(uint64_t pair) const {
    return static_cast<int64_t>(pair & ((uint64_t{1} << rank) - 1));
  }
};

// One thread a place. A stable sort by the row of dkeys then brings a row's places together in
// ascending token; places without a half-key get a row behind the last.
__global__ void __launch_bounds__(kThreads)
    place_kernel(Guard guard, uint64_t* pairs, Gradients a, int64_t H, PlaceBits bits) {
  if (guard.aborted()) return;
  // [0, TH * 2 * k) and past it
  const int64_t place = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (place < a.TH * 2 * a.k) {
    const int32_t half_key = a.half_keys[place];
    const int64_t query = place / a.k;  // [0, 2 TH): (t, h, p)
    const int64_t row = half_key < 0 ? 2 * H * a.n : query % (2 * H) * a.n + half_key;
    pairs[place] = static_cast<uint64_t>(row) << bits.place() |
                   static_cast<uint64_t>(query) << bits.rank | static_cast<uint64_t>(place % a.k);
  }
}

// starts[row]: where a row's places begin in the sorted pairs, for rows [0, rows]. One thread a
// pair, which writes the rows after that of the pair before, up to its own.
__global__ void __launch_bounds__(kThreads)
    starts_kernel(Guard guard, int64_t* starts, const uint64_t* pairs, int64_t count, int64_t rows,
                  int place_bits) {
  if (guard.aborted()) return;
  // [0, count] and past it
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i <= count) {
    const int64_t first = i == 0 ? 0 : static_cast<int64_t>(pairs[i - 1] >> place_bits) + 1;
    const int64_t last = i == count ? rows : static_cast<int64_t>(pairs[i] >> place_bits);
    for (int64_t row = first; row <= last; ++row) starts[row] = i;
  }
}

// The sorted places and where each row of dkeys [2 H n, d] has its own.
struct Places {
  const uint64_t* pairs;
  const int64_t* starts;  // [2 H n + 1]
  PlaceBits bits;
};

// sum += the query's rows times the gradients of the places: 32 of every `step`, from begin to end,
// in order. The warp's.
template <int kVec, class T>
__device__ inline void add_entries(float (&sum)[kVec], const Gradients& a, const Places& p,
                                   const T* query, int64_t d, int64_t begin, int64_t end,
                                   int64_t step, bool active) {
  for (int64_t base = begin; base < end; base += step) {
    const int count = end - base < kWarp ? static_cast<int>(end - base) : kWarp;
    int64_t from = 0;
    float factor = 0;
    if (lane() < count) {
      const uint64_t pair = p.pairs[base + lane()];
      from = p.bits.query_of(pair);
      factor = a.values[from * a.k + p.bits.rank_of(pair)];
    }
    add_rows(sum, query, d, from, factor, count, active);
  }
}

// Rows with few places: one warp adds to one row, in one slice of 32 * kVec columns.
template <class T, int kVec>
__global__ void __launch_bounds__(kThreads)
    dkeys_by_warp_kernel(Guard guard, float* dkeys, Gradients a, Places p, const T* query,
                         int64_t d, int64_t rows) {
  if (guard.aborted()) return;
  const int64_t slices = (d + kWarp * kVec - 1) / (kWarp * kVec);
  // [0, rows * slices) and past it
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kWarps + warp_of_block();
  if (item >= rows * slices) return;  // whole warps
  const int64_t row = item / slices, column = item % slices * (kWarp * kVec) + lane() * kVec;
  const int64_t begin = p.starts[row], end = p.starts[row + 1];
  float sum[kVec] = {};
  add_entries(sum, a, p, query + column, d, begin, end, kWarp, column < d);
  if (begin == end || column >= d) return;
  float* to = dkeys + row * d + column;
  Pack<float, kVec> total = load<kVec>(to);
#pragma unroll
  for (int e = 0; e < kVec; ++e) total.v[e] += sum[e];
  store<kVec>(to, total);
}

template <int kVec>
struct WarpSums {
  float v[kWarps][kWarp * kVec];
};

// Rows with many: one block adds to one row, in one slice. Its warps take 32 places in turn; their
// sums are added in order.
template <class T, int kVec>
__global__ void __launch_bounds__(kThreads)
    dkeys_by_block_kernel(Guard guard, float* dkeys, Gradients a, Places p, const T* query,
                          int64_t d) {
  if (guard.aborted()) return;
  WarpSums<kVec>& s = shared<WarpSums<kVec>>();
  const int64_t slices = (d + kWarp * kVec - 1) / (kWarp * kVec);
  const int64_t row = blockIdx.x / slices,
                column = blockIdx.x % slices * (kWarp * kVec) + lane() * kVec;
  const int64_t begin = p.starts[row], end = p.starts[row + 1];
  float sum[kVec] = {};
  add_entries(sum, a, p, query + column, d, begin + warp_of_block() * kWarp, end, kThreads,
              column < d);
  Pack<float, kVec> mine;
#pragma unroll
  for (int e = 0; e < kVec; ++e) mine.v[e] = sum[e];
  store<kVec>(&s.v[warp_of_block()][lane() * kVec], mine);
  block_sync();
  // Only warps that had places count: a short row costs few additions.
  const int64_t used =
      (end - begin + kWarp - 1) / kWarp < kWarps ? (end - begin + kWarp - 1) / kWarp : kWarps;
  for (int c = static_cast<int>(threadIdx.x); c < kWarp * kVec; c += kThreads) {
    const int64_t j = blockIdx.x % slices * (kWarp * kVec) + c;
    if (used == 0 || j >= d) continue;
    float total = s.v[0][c];
    for (int w = 1; w < used; ++w) total += s.v[w][c];
    dkeys[row * d + j] += total;
  }
}

template <class T, int kVec>
void half_gradients(CudaStream& stream, const ProductKeyLookupBackward& a, const Gradients& g) {
  const int64_t H = a.query.dim(1), d = a.query.dim(3), rows = 2 * H * g.n, places = g.TH * 2 * g.k;
  if (a.dquery)
    launch(dquery_kernel<T, kVec>, dim3(blocks_for(2 * g.TH, kWarps)), dim3(kThreads), 0, stream,
           a.dquery.as<float>(), g, a.keys.as<T>(), H, d);
  if (!a.dkeys || d == 0) return;
  const auto bits_for = [](int64_t greatest) {
    return static_cast<int>(std::bit_width(static_cast<uint64_t>(greatest)));
  };
  const PlaceBits bits{bits_for(2 * g.TH - 1), bits_for(g.k - 1)};
  uint64_t* pairs = stream.scratch<uint64_t>(places);
  uint64_t* other = stream.scratch<uint64_t>(places);
  launch(place_kernel, dim3(blocks_for(places, kThreads)), dim3(kThreads), 0, stream, pairs, g, H,
         bits);
  const uint64_t* sorted =
      sort_pairs(stream, pairs, other, places, bits.place(), bits.place() + bits_for(rows));
  int64_t* starts = stream.scratch<int64_t>(rows + 1);
  launch(starts_kernel, dim3(blocks_for(places + 1, kThreads)), dim3(kThreads), 0, stream, starts,
         sorted, places, rows, bits.place());
  const int64_t slices = (d + kWarp * kVec - 1) / (kWarp * kVec);
  const Places p{sorted, starts, bits};
  if (places <= rows * kFewPlaces) {
    launch(dkeys_by_warp_kernel<T, kVec>, dim3(blocks_for(rows * slices, kWarps)), dim3(kThreads),
           0, stream, a.dkeys.as<float>(), g, p, a.query.as<T>(), d, rows);
  } else {
    launch(dkeys_by_block_kernel<T, kVec>, dim3(static_cast<unsigned>(rows * slices)),
           dim3(kThreads), sizeof(WarpSums<kVec>), stream, a.dkeys.as<float>(), g, p,
           a.query.as<T>(), d);
  }
}

}  // namespace

void product_key_lookup_backward(CudaStream& stream, const ProductKeyLookupBackward& a) {
  const int64_t T = a.query.dim(0), H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2),
                k = a.weights.dim(2);
  if (T == 0 || H == 0 || k == 0) return;
  stream.check_indices("productKeyLookupBackward", "lookup.indices", a.indices, n * n);
  const int64_t TH = T * H, places = TH * 2 * k;
  const Gradients g{stream.scratch<float>(places),
                    stream.scratch<int32_t>(places),
                    a.dweights.as<float>(),
                    a.weights.as<float>(),
                    a.scores.as<float>(),
                    a.indices.as<int32_t>(),
                    TH,
                    k,
                    n,
                    a.gate};
  const bool merge = k <= kMostMerged;
  launch(merge ? gradients_kernel<true> : gradients_kernel<false>, dim3(blocks_for(TH, kWarps)),
         dim3(kThreads), merge ? sizeof(Winners) : 0, stream, g);
  dispatch_float(a.query.dtype, [&](auto t) {
    using Element = decltype(t);
    const bool packed = widest(a.query.as<Element>(), d) % 4 == 0 &&
                        widest(a.keys.as<Element>(), d) % 4 == 0 &&
                        (!a.dquery || widest(a.dquery.as<float>(), d) % 4 == 0) &&
                        (!a.dkeys || widest(a.dkeys.as<float>(), d) % 4 == 0);
    packed ? half_gradients<Element, 4>(stream, a, g) : half_gradients<Element, 1>(stream, a, g);
  });
}

}  // namespace ml::ML_CUDA_NAMESPACE
