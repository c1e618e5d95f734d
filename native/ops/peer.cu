#include "ops/peer.h"

#include <algorithm>
#include <bit>

#include "cuda/activation.cuh"
#include "cuda/bags.cuh"
#include "cuda/block.cuh"
#include "cuda/launch.cuh"
#include "cuda/stream.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// A team of 1, 2, 4 or 8 whole warps of a block works on one token: first they share its experts,
// then the columns of its output.
struct Team {
  int threads, thread;  // of the team; which of them this is
  int64_t token;
};
__device__ inline Team team_of(int warps) {
  const int threads = warps * kWarp, thread = static_cast<int>(threadIdx.x);
  return {threads, thread % threads, int64_t{blockIdx.x} * (kThreads / threads) + thread / threads};
}

struct Experts {
  const float *down, *up;
  const int32_t* indices;  // [tokens, size]
  const float* weights;
  int64_t tokens;
  int size, inner, outer;  // down [N, inner], up [N, outer]
};

__device__ inline RowEntry<float> place_of(const float* table, int32_t index, float weight,
                                           int width) {
  if (index < 0) return {nullptr, 0.0f};
  return {row_at(table, index, width), weight};
}

// then(i, there, <vector, table row of place i>) for every place i of the team's token, by one
// thread each. A lane group takes `lanes` places at a time.
template <class Tile, class F>
__device__ inline void for_products(const Team& team, const Experts& e, const float* vector,
                                    const float* table, int width, Slicing slicing, F then) {
  const LaneGroup group = lane_group(slicing.lanes);
  const int64_t first = team.token * e.size, last = team.token < e.tokens ? first + e.size : first;
  const float* x_row = row_at(vector, team.token, width);
  for (int64_t warp_begin = first + team.thread / kWarp * kWarp; warp_begin < last;
       warp_begin += team.threads) {
    const int64_t begin = warp_begin + group.first, i = begin + group.lane;
    const RowEntry<float> mine =
        i < last ? place_of(table, e.indices[i], 1.0f, width) : RowEntry<float>{nullptr, 0.0f};
    const int count =
        static_cast<int>(last - warp_begin < group.lanes ? last - warp_begin : group.lanes);
    float product = 0;
    for (int slice = 0; slice < slicing.slices; ++slice) {
      const int column = Tile::column(group, slice);
      Tile x;
#pragma unroll
      for (int v = 0; v < Tile::vectors; ++v)
        load_floats(x.v[v], x_row, column + v * group.lanes * Tile::n, width, true, true);
      product += dot_rows<float>(x, group, mine, count, column, width);
    }
    if (i < last) then(i, mine.row != nullptr, product);
  }
}

// row (+)= sum of coefficient * table row over the places of the team's token. A lane group takes a
// slice of the columns.
template <class Tile>
__device__ inline void add_experts(const Team& team, const Experts& e, float* rows,
                                   const float* coefficient, const float* table, int width,
                                   Slicing slicing, bool accumulate) {
  const LaneGroup group = lane_group(slicing.lanes);
  const int groups = team.threads / slicing.lanes;
  const int64_t first = team.token * e.size;
  const int longest = team.token < e.tokens ? e.size : 0;
  float* row = row_at(rows, team.token, width);
  for (int base = (team.thread / kWarp * kWarp) / slicing.lanes; base < slicing.slices;
       base += groups) {
    const int slice = base + group.first / slicing.lanes;
    const bool active = slice < slicing.slices && team.token < e.tokens;
    const int column = Tile::column(group, slice);
    Tile sum;
    if (accumulate && active) {
#pragma unroll
      for (int v = 0; v < Tile::vectors; ++v)
        load_floats(sum.v[v], row, column + v * group.lanes * Tile::n, width, true, true);
    }
    add_rows<Reading::once, float>(
        sum, group, active ? e.size : 0, longest, column, width, [&](int i) {
          return place_of(table, e.indices[first + i], coefficient[first + i], width);
        });
#pragma unroll
    for (int v = 0; v < Tile::vectors; ++v)
      store_floats(row, sum.v[v], column + v * group.lanes * Tile::n, width, active, true);
  }
}

// A team works on one token. What its warps write in the first half they read in the second, behind
// the barrier.
template <class Tile>
__global__ void __launch_bounds__(kThreads, 2)
    peer_kernel(Guard guard, float* out, float* u, float* coefficient, const float* x, Experts e,
                Activation activation, int warps, Slicing inner, Slicing outer) {
  if (guard.aborted()) return;
  const Team team = team_of(warps);
  for_products<Tile>(team, e, x, e.down, e.inner, inner, [&](int64_t i, bool there, float product) {
    u[i] = there ? product : 0.0f;
    coefficient[i] = there ? e.weights[i] * activate(activation, product) : 0.0f;
  });
  block_sync();
  add_experts<Tile>(team, e, out, coefficient, e.up, e.outer, outer, false);
}

// As the forward, with the tables changed over: products of dout with rows of `up`, then rows of
// `down` added to dx.
template <class Tile>
__global__ void __launch_bounds__(kThreads, 2)
    peer_backward_kernel(Guard guard, float* dx, float* dweights, float* du, float* coefficient,
                         const float* dout, const float* u, Experts e, Activation activation,
                         int warps, Slicing inner, Slicing outer) {
  if (guard.aborted()) return;
  const Team team = team_of(warps);
  for_products<Tile>(team, e, dout, e.up, e.outer, outer, [&](int64_t i, bool there, float c) {
    const float w = there ? e.weights[i] : 0.0f, f = activate(activation, u[i]);
    coefficient[i] = w * f;
    du[i] = there ? w * activate_derivative(activation, u[i]) * c : 0.0f;
    dweights[i] = there ? f * c : 0.0f;
  });
  block_sync();
  add_experts<Tile>(team, e, dx, du, e.down, e.inner, inner, true);
}

Experts experts_of(const View& down, const View& up, const View& indices, const View& weights) {
  return {down.as<float>(),
          up.as<float>(),
          indices.as<int32_t>(),
          weights.as<float>(),
          indices.dim(0),
          static_cast<int>(indices.dim(1)),
          static_cast<int>(down.dim(1)),
          static_cast<int>(up.dim(1))};
}

bool in_fours(const View& rows) {
  return rows.dim(1) % 4 == 0 && reinterpret_cast<uintptr_t>(rows.data) % 16 == 0;
}

// Calls f(Tile{}, inner, outer, warps, grid). A token gets a warp for each slice, and eight where
// tokens are too few to fill the device.
template <class F>
void with_teams(CudaStream& stream, const Experts& e, bool fours, F f) {
  const auto with = [&]<class Tile>(Tile tile) {
    const Slicing inner = slicing(e.inner / Tile::n, Tile::vectors),
                  outer = slicing(e.outer / Tile::n, Tile::vectors);
    constexpr int most = kThreads / kWarp;
    const bool few = e.tokens < 4 * stream.limits().multiprocessors;
    const int warps =
        few ? most
            : std::min<int>(most, static_cast<int>(std::bit_ceil(static_cast<unsigned>(
                                      std::max(inner.slices, outer.slices)))));
    f(tile, inner, outer, warps, dim3(blocks_for(e.tokens, most / warps)));
  };
  if (fours) return with(Tile<4, 2, 4>{});
  with(Tile<1, 4, 4>{});
}

}  // namespace

void peer(CudaStream& stream, const Peer& a) {
  stream.check_indices("peer", "indices", a.indices, a.down.dim(0));
  const Experts e = experts_of(a.down, a.up, a.indices, a.weights);
  float* coefficient = stream.scratch<float>(a.indices.size());
  const bool fours = in_fours(a.x) && in_fours(a.out) && in_fours(a.down) && in_fours(a.up);
  with_teams(
      stream, e, fours, [&]<class Tile>(Tile, Slicing inner, Slicing outer, int warps, dim3 grid) {
        launch(peer_kernel<Tile>, grid, dim3(kThreads), 0, stream, a.out.as<float>(),
               a.u.as<float>(), coefficient, a.x.as<float>(), e, a.activation, warps, inner, outer);
      });
}

void peer_backward(CudaStream& stream, const PeerBackward& a) {
  stream.check_indices("peerBackward", "indices", a.indices, a.down.dim(0));
  const Experts e = experts_of(a.down, a.up, a.indices, a.weights);
  const bool fours = in_fours(a.dx) && in_fours(a.dout) && in_fours(a.down) && in_fours(a.up);
  with_teams(stream, e, fours,
             [&]<class Tile>(Tile, Slicing inner, Slicing outer, int warps, dim3 grid) {
               launch(peer_backward_kernel<Tile>, grid, dim3(kThreads), 0, stream, a.dx.as<float>(),
                      a.dweights.as<float>(), a.du.as<float>(), a.coefficient.as<float>(),
                      a.dout.as<float>(), a.u.as<float>(), e, a.activation, warps, inner, outer);
             });
}

}  // namespace ml::ML_CUDA_NAMESPACE
