#include "ops/embedding_bag.h"

#include <algorithm>

#include "cuda/bags.cuh"
#include "cuda/launch.cuh"
#include "cuda/stream.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// Bags are few: their places are cut in pieces, so that the device is not idle. How many depends on
// the shape alone, not on the device or the width: the same bits on every device, and in every
// column shard.
constexpr int64_t kFewBags = 512;
constexpr int64_t kPiecePlaces = 16;  // at least, of the average bag

template <class T>
struct BagTable {
  const T* rows;
  const float* scales;  // by row, or nullptr
  int width;

  __device__ RowEntry<T> place(int32_t index, float weight) const {
    if (index < 0) return {nullptr, 0.0f};
    return {row_at(rows, index, width), scales ? weight * scales[index] : weight};
  }
};

// Blocks a multiprocessor holds at once. Told so, the compiler keeps all rows in flight in
// registers, instead of waiting for some of them.
template <class Tile>
constexpr int kResident = Tile::n * Tile::vectors > 16 ? 2 : 3;

// A block is 256 / lanes bags, a lane group one slice of one piece of a bag. Slices of a bag are
// neighbours, so that its indices come from L2.
template <class T, class Tile>
__global__ void __launch_bounds__(kThreads, kResident<Tile>)
    embedding_bag_kernel(Guard guard, float* y, BagTable<T> table, Bags bags, const float* weights,
                         Slicing slicing, bool aligned) {
  if (guard.aborted()) return;
  const LaneGroup group = lane_group(slicing.lanes);
  const int slice = blockIdx.x % slicing.slices;
  const int64_t bag =
      int64_t{blockIdx.x / slicing.slices} * (kThreads / slicing.lanes) + group_of_block(group);
  const int64_t piece = blockIdx.y, pieces = gridDim.y;
  const bool active = bag < bags.count;
  const Span span = active ? part_of(bags.begin(bag), bags.end(bag), piece, pieces) : Span{0, 0};
  const auto count = static_cast<int>(span.end - span.begin);
  const auto longest = static_cast<int>(reduce_max(static_cast<uint32_t>(count)));
  const int column = Tile::column(group, slice);

  Tile sum;
  add_rows<Reading::once, T>(sum, group, count, longest, column, table.width, [&](int i) {
    return table.place(bags.indices[span.begin + i], weights[span.begin + i]);
  });
  float* row = row_at(y, piece * bags.count + bag, table.width);
#pragma unroll
  for (int v = 0; v < Tile::vectors; ++v)
    store_floats(row, sum.v[v], column + v * group.lanes * Tile::n, table.width, active, aligned);
}

// A thread adds the pieces of one element of y, in order.
__global__ void __launch_bounds__(kThreads)
    bag_pieces_kernel(Guard guard, float* y, const float* partials, int64_t size, int pieces) {
  if (guard.aborted()) return;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= size) return;
  float sum = partials[i];
  for (int p = 1; p < pieces; ++p) sum += partials[p * size + i];
  y[i] = sum;
}

// A block is 256 / lanes bags, a lane group some places of one bag: all slices of their rows, so
// that no product is in two parts.
template <class T, class Tile>
__global__ void __launch_bounds__(kThreads, kResident<Tile>)
    embedding_bag_weights_backward_kernel(Guard guard, float* dweights, const float* dy,
                                          BagTable<T> table, Bags bags, Slicing slicing,
                                          bool aligned) {
  if (guard.aborted()) return;
  const LaneGroup group = lane_group(slicing.lanes);
  const int64_t bag = int64_t{blockIdx.x} * (kThreads / slicing.lanes) + group_of_block(group);
  const bool active = bag < bags.count;
  const Span span =
      active ? part_of(bags.begin(bag), bags.end(bag), blockIdx.y, gridDim.y) : Span{0, 0};
  const auto longest = static_cast<int>(reduce_max(static_cast<uint32_t>(span.end - span.begin)));
  const float* dy_row = row_at(dy, bag, table.width);

  Tile x;
  for (int done = 0; done < longest; done += group.lanes) {
    const int64_t i = span.begin + done + group.lane;
    const RowEntry<T> mine =
        i < span.end ? table.place(bags.indices[i], 1.0f) : RowEntry<T>{nullptr, 0.0f};
    const int count = longest - done < group.lanes ? longest - done : group.lanes;
    float product = 0;
    for (int slice = 0; slice < slicing.slices; ++slice) {
      const int column = Tile::column(group, slice);
      if (slicing.slices > 1 || done == 0) {  // one slice stays in registers
#pragma unroll
        for (int v = 0; v < Tile::vectors; ++v)
          load_floats(x.v[v], dy_row, column + v * group.lanes * Tile::n, table.width, active,
                      aligned);
      }
      product += dot_rows<T>(x, group, mine, count, column, table.width);
    }
    if (i < span.end) dweights[i] = mine.row ? mine.weight * product : 0.0f;
  }
}

template <class F>
void dispatch_table(DType dtype, F f) {
  if (dtype == DType::i8) return f(int8_t{});
  dispatch_float(dtype, f);
}

bool can_move(const float* rows, int n) {
  return reinterpret_cast<uintptr_t>(rows) % (std::min(n, 4) * sizeof(float)) == 0;
}

}  // namespace

void embedding_bag(CudaStream& stream, const EmbeddingBag& a) {
  const int64_t B = a.y.dim(0), V = a.y.dim(1), places = a.indices.size();
  stream.check_indices("embeddingBag", "indices", a.indices, a.table.dim(0));
  if (a.offsets) stream.check_offsets("embeddingBag", a.offsets, places);
  if (B == 0 || V == 0) return;
  const int64_t average = (places + B - 1) / B;
  const int64_t pieces =
      std::clamp<int64_t>(average / kPiecePlaces, 1, std::max<int64_t>(1, kFewBags / B));
  float* target = pieces == 1 ? a.y.as<float>() : stream.scratch<float>(pieces * B * V);
  dispatch_table(a.table.dtype, [&](auto t) {
    using T = decltype(t);
    const BagTable<T> table{a.table.as<T>(), a.scales ? a.scales.as<float>() : nullptr,
                            static_cast<int>(V)};
    with_tile<T>(widest(table.rows, V), V, [&]<class Tile>(Tile, Slicing s) {
      const dim3 grid(s.slices * blocks_for(B, kThreads / s.lanes), static_cast<unsigned>(pieces));
      launch(embedding_bag_kernel<T, Tile>, grid, dim3(kThreads), 0, stream, target, table,
             bags_of(a.indices, a.offsets, B), a.weights.as<float>(), s, can_move(target, Tile::n));
    });
  });
  if (pieces > 1)
    launch(bag_pieces_kernel, dim3(blocks_for(B * V, kThreads)), dim3(kThreads), 0, stream,
           a.y.as<float>(), target, B * V, static_cast<int>(pieces));
}

void embedding_bag_weights_backward(CudaStream& stream, const EmbeddingBagWeightsBackward& a) {
  const int64_t B = a.dy.dim(0), V = a.table.dim(1), places = a.indices.size();
  stream.check_indices("embeddingBagBackward", "indices", a.indices, a.table.dim(0));
  if (a.offsets) stream.check_offsets("embeddingBagBackward", a.offsets, places);
  if (places == 0) return;
  dispatch_table(a.table.dtype, [&](auto t) {
    using T = decltype(t);
    const BagTable<T> table{a.table.as<T>(), a.scales ? a.scales.as<float>() : nullptr,
                            static_cast<int>(V)};
    with_tile<T>(widest(table.rows, V), V, [&]<class Tile>(Tile, Slicing s) {
      const int64_t pieces =
          std::clamp<int64_t>(places / B / s.lanes, 1, std::max<int64_t>(1, kFewBags / B));
      const dim3 grid(blocks_for(B, kThreads / s.lanes), static_cast<unsigned>(pieces));
      launch(embedding_bag_weights_backward_kernel<T, Tile>, grid, dim3(kThreads), 0, stream,
             a.dweights.as<float>(), a.dy.as<float>(), table, bags_of(a.indices, a.offsets, B), s,
             can_move(a.dy.as<float>(), Tile::n));
    });
  });
}

}  // namespace ml::ML_CUDA_NAMESPACE
