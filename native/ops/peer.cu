// PEER (ops/peer.h): one token group computes the dot products of a token with its experts, then
// the weighted sum of their rows.

#include "ops/peer.h"

#include <algorithm>
#include <bit>

#include "cuda/activation.cuh"
#include "cuda/block.cuh"
#include "cuda/gather.cuh"
#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// 1, 2, 4 or 8 warps of a block that work on one token: first each has some of its experts, then
// some of the columns of its output.
struct TokenGroup {
  int threads, thread;  // of the group; this one's index
  int64_t token;
};
__device__ inline TokenGroup token_group_of(int warps) {
  const int threads = warps * kWarp, thread = static_cast<int>(threadIdx.x);
  return {threads, thread % threads, int64_t{blockIdx.x} * (kThreads / threads) + thread / threads};
}

template <class T>
struct Experts {
  const T *down, *up;
  const int32_t* indices;  // [tokens, size]
  const float* weights;
  int64_t tokens;
  int size, inner, outer;  // down [N, inner], up [N, outer]
};

template <class T>
__device__ inline RowEntry<T> entry_of(const T* table, int32_t index, float weight, int width) {
  if (index < 0) return {nullptr, 0.0f};
  return {row_at(table, index, width), weight};
}

// then(i, exists, <vector, table row of entry i>) for every entry i of the group's token, on one
// thread each; false for a padding entry. A lane group has `lanes` entries at a time.
template <class Slice, class T, class F>
__device__ inline void for_products(const TokenGroup& t, const Experts<T>& e, const float* vector,
                                    const T* table, int width, Slicing slicing, F then) {
  const LaneGroup group = lane_group(slicing.lanes);
  const int64_t first = t.token * e.size, last = t.token < e.tokens ? first + e.size : first;
  const float* x_row = row_at(vector, t.token, width);
  for (int64_t warp_begin = first + t.thread / kWarp * kWarp; warp_begin < last;
       warp_begin += t.threads) {
    const int64_t begin = warp_begin + group.first, i = begin + group.lane;
    const RowEntry<T> own =
        i < last ? entry_of(table, e.indices[i], 1.0f, width) : RowEntry<T>{nullptr, 0.0f};
    const int count =
        static_cast<int>(last - warp_begin < group.lanes ? last - warp_begin : group.lanes);
    float product = 0;
    for (int slice = 0; slice < slicing.slices; ++slice) {
      const int column = Slice::column(group, slice);
      Slice x;
#pragma unroll
      for (int v = 0; v < Slice::vectors; ++v)
        load_floats(x.v[v], x_row, column + v * group.lanes * Slice::n, width, true, true);
      product += dot_rows<T>(x, group, own, count, column, width);
    }
    if (i < last) then(i, own.row != nullptr, product);
  }
}

// row (+)= sum of coefficient * table row over the entries of the group's token. A lane group has
// one slice of the columns at a time.
template <class Slice, class T>
__device__ inline void add_experts(const TokenGroup& t, const Experts<T>& e, float* rows,
                                   const float* coefficient, const T* table, int width,
                                   Slicing slicing, bool accumulate) {
  const LaneGroup group = lane_group(slicing.lanes);
  const int groups = t.threads / slicing.lanes;
  const int64_t first = t.token * e.size;
  const int max_count = t.token < e.tokens ? e.size : 0;
  float* row = row_at(rows, t.token, width);
  for (int base = (t.thread / kWarp * kWarp) / slicing.lanes; base < slicing.slices;
       base += groups) {
    const int slice = base + group.first / slicing.lanes;
    const bool active = slice < slicing.slices && t.token < e.tokens;
    const int column = Slice::column(group, slice);
    Slice sum;
    if (accumulate && active) {
#pragma unroll
      for (int v = 0; v < Slice::vectors; ++v)
        load_floats(sum.v[v], row, column + v * group.lanes * Slice::n, width, true, true);
    }
    add_rows<Caching::streaming, T>(
        sum, group, active ? e.size : 0, max_count, column, width, [&](int i) {
          return entry_of(table, e.indices[first + i], coefficient[first + i], width);
        });
#pragma unroll
    for (int v = 0; v < Slice::vectors; ++v)
      store_floats(row, sum.v[v], column + v * group.lanes * Slice::n, width, active, true);
  }
}

// One token group computes one token. What its warps write before the barrier they read after it.
template <class Slice, class T>
__global__ void __launch_bounds__(kThreads, kPeerMinBlocks)
    peer_kernel(Guard guard, float* out, float* u, float* coefficient, const float* x, Experts<T> e,
                Activation activation, int warps, Slicing inner, Slicing outer) {
  if (guard.aborted()) return;
  const TokenGroup t = token_group_of(warps);
  for_products<Slice>(t, e, x, e.down, e.inner, inner, [&](int64_t i, bool exists, float product) {
    u[i] = exists ? product : 0.0f;
    coefficient[i] = exists ? e.weights[i] * activate(activation, product) : 0.0f;
  });
  block_sync();
  add_experts<Slice>(t, e, out, coefficient, e.up, e.outer, outer, false);
}

// One token group computes the gradients of one token, with the tables swapped: products of dout
// with rows of `up`, then rows of `down` added to dx.
template <class Slice, class T>
__global__ void __launch_bounds__(kThreads, kPeerMinBlocks)
    peer_backward_kernel(Guard guard, float* dx, float* dweights, float* du, float* coefficient,
                         const float* dout, const float* u, Experts<T> e, Activation activation,
                         int warps, Slicing inner, Slicing outer) {
  if (guard.aborted()) return;
  const TokenGroup t = token_group_of(warps);
  for_products<Slice>(t, e, dout, e.up, e.outer, outer, [&](int64_t i, bool exists, float c) {
    const float w = exists ? e.weights[i] : 0.0f, f = activate(activation, u[i]);
    coefficient[i] = w * f;
    du[i] = exists ? w * activate_derivative(activation, u[i]) * c : 0.0f;
    dweights[i] = exists ? f * c : 0.0f;
  });
  block_sync();
  add_experts<Slice>(t, e, dx, du, e.down, e.inner, inner, true);
}

template <class T>
Experts<T> experts_of(const View& down, const View& up, const View& indices, const View& weights) {
  return {.down = down.as<T>(),
          .up = up.as<T>(),
          .indices = indices.as<int32_t>(),
          .weights = weights.as<float>(),
          .tokens = indices.dim(0),
          .size = static_cast<int>(indices.dim(1)),
          .inner = static_cast<int>(down.dim(1)),
          .outer = static_cast<int>(up.dim(1))};
}

// Whether rows can be accessed in packs of four.
bool vec4_aligned(const View& rows) {
  return rows.dim(1) % 4 == 0 &&
         reinterpret_cast<uintptr_t>(rows.data) % static_cast<size_t>(4 * bytes_of(rows.dtype)) ==
             0;
}

// Calls f(RowSlice{}, inner, outer, warps, grid). A token has one warp for each slice, and eight
// where there are too few tokens to fill the device.
template <class T, class F>
void with_slices(CudaStream& stream, const Experts<T>& e, bool vec4, F f) {
  const auto with = [&]<class Slice>(Slice slice) {
    const Slicing inner = slicing(e.inner / Slice::n, Slice::vectors),
                  outer = slicing(e.outer / Slice::n, Slice::vectors);
    constexpr int max_warps = kThreads / kWarp;
    const bool few = e.tokens < 4 * stream.limits().multiprocessors;
    const int warps =
        few ? max_warps
            : std::min<int>(max_warps, static_cast<int>(std::bit_ceil(static_cast<unsigned>(
                                           std::max(inner.slices, outer.slices)))));
    f(slice, inner, outer, warps, dim3(blocks_for(e.tokens, max_warps / warps)));
  };
  if (vec4) return with(RowSlice<4, 2, 4>{});
  with(RowSlice<1, 4, 4>{});
}

// Calls f(experts, RowSlice{}, inner, outer, warps, grid), with the experts of a call.
template <class Args, class F>
void with_experts(CudaStream& stream, const Args& a, bool vec4, F f) {
  dispatch_float(a.down.dtype, [&](auto element) {
    const auto e = experts_of<decltype(element)>(a.down, a.up, a.indices, a.weights);
    with_slices(stream, e, vec4, [&](auto... how) { f(e, how...); });
  });
}

}  // namespace

void peer(CudaStream& stream, const Peer& a) {
  if (!a.indices_known) stream.check_indices("peer", "indices", a.indices, a.down.dim(0));
  if (a.out.size() == 0 && a.u.size() == 0) return;
  float* coefficient = stream.scratch<float>(a.indices.size());
  const bool vec4 =
      vec4_aligned(a.x) && vec4_aligned(a.out) && vec4_aligned(a.down) && vec4_aligned(a.up);
  with_experts(stream, a, vec4,
               [&]<class T, class Slice>(const Experts<T>& e, Slice, Slicing inner, Slicing outer,
                                         int warps, dim3 grid) {
                 launch(peer_kernel<Slice, T>, grid, dim3(kThreads), 0, stream, a.out.as<float>(),
                        a.u.as<float>(), coefficient, a.x.as<float>(), e, a.activation, warps,
                        inner, outer);
               });
}

void peer_backward(CudaStream& stream, const PeerBackward& a) {
  if (!a.indices_known) stream.check_indices("peerBackward", "indices", a.indices, a.down.dim(0));
  if (a.u.size() == 0) return;
  const bool vec4 =
      vec4_aligned(a.dx) && vec4_aligned(a.dout) && vec4_aligned(a.down) && vec4_aligned(a.up);
  with_experts(stream, a, vec4,
               [&]<class T, class Slice>(const Experts<T>& e, Slice, Slicing inner, Slicing outer,
                                         int warps, dim3 grid) {
                 launch(peer_backward_kernel<Slice, T>, grid, dim3(kThreads), 0, stream,
                        a.dx.as<float>(), a.dweights.as<float>(), a.du.as<float>(),
                        a.coefficient.as<float>(), a.dout.as<float>(), a.u.as<float>(), e,
                        a.activation, warps, inner, outer);
               });
}

}  // namespace ml::ML_CUDA_NAMESPACE
