// Embedding bag (ops/embedding_bag.h): one lane group sums one slice of the rows of a bag, or the
// dot products of dy with them. A table row is read once, in packs of up to 16 bytes.

#include "ops/embedding_bag.h"

#include <algorithm>

#include "cuda/gather.cuh"
#include "cuda/last_block.cuh"
#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// Fixed bags of `size` entries, or ragged ones that end at offsets[b + 1].
struct Bags {
  const int32_t* indices;
  const int32_t* offsets;  // nullptr: fixed
  int64_t count, size;

  __device__ int64_t begin(int64_t bag) const { return offsets ? offsets[bag] : bag * size; }
  __device__ int64_t end(int64_t bag) const {
    return offsets ? offsets[bag + 1] : (bag + 1) * size;
  }
};

// Chunk `chunk` of `chunks` nearly equal ones of the entries [begin, end).
struct Span {
  int64_t begin, end;
};
__device__ inline Span chunk_of(int64_t begin, int64_t end, int64_t chunk, int64_t chunks) {
  const int64_t size = (end - begin + chunks - 1) / chunks;
  const int64_t from = begin + chunk * size, to = from + size;
  return {from < end ? from : end, to < end ? to : end};
}

// The table [rows, width]; an entry multiplies its weight by the scale of its row.
template <class T>
struct BagTable {
  const T* rows;
  const float* scales;  // [rows] of an int8 table, or nullptr
  int width;

  __device__ RowEntry<T> entry(int32_t index, float weight) const {
    if (index < 0) return {nullptr, 0.0f};
    return {row_at(rows, index, width), scales ? weight * scales[index] : weight};
  }
};

// Blocks of a multiprocessor. With this bound the compiler has the registers to keep all rows in
// flight, instead of waiting for some of them.
template <class Slice>
constexpr int kMinBlocks = Slice::n * Slice::vectors >= 16 ? 2 : 3;

// The slices that a block has of rows of y: `columns` from `column` on, of `bags` bags from `bag`.
struct BagSlices {
  int64_t bag, bags;
  int column, columns;
};
template <class Slice>
__device__ inline BagSlices slices_of_block(int64_t block, const Slicing& slicing, int64_t bags,
                                            int width) {
  const int64_t bag = block / slicing.slices * (kThreads / slicing.lanes);
  const int64_t left = bags - bag;
  const int size = slicing.lanes * Slice::n * Slice::vectors,
            column = static_cast<int>(block % slicing.slices) * size;
  return {.bag = bag,
          .bags = left < kThreads / slicing.lanes ? left : kThreads / slicing.lanes,
          .column = column,
          .columns = width - column < size ? width - column : size};
}

// The block adds the sums of all chunks in order; one thread adds every kThreads-th element.
__device__ inline void add_chunks(float* y, const float* partials, const BagSlices& at,
                                  int64_t bags, int width, int chunks) {
  const int64_t size = bags * width;
  for (int64_t i = threadIdx.x; i < at.bags * at.columns; i += kThreads) {
    const int64_t element = (at.bag + i / at.columns) * width + at.column + i % at.columns;
    float sum = partials[element];
#pragma unroll 8  // loads in flight
    for (int c = 1; c < chunks; ++c) sum += partials[c * size + element];
    y[element] = sum;
  }
}

// One block: kThreads / lanes bags. One lane group: one slice of one chunk of a bag. Slices of a
// bag are in neighbouring blocks, so that its indices come from L2. The chunks are summed to
// `partials` [chunks, bags, width], or without them to y; the last block adds them. Blocks whose
// numbers leave the same remainder by kArrivals share a counter.
template <class T, class Slice>
__global__ void __launch_bounds__(kThreads, kMinBlocks<Slice>)
    embedding_bag_kernel(Guard guard, float* y, float* partials, BagTable<T> table, Bags bags,
                         const float* weights, Slicing slicing, bool aligned) {
  if (guard.aborted()) return;
  const LaneGroup group = lane_group(slicing.lanes);
  const int slice = blockIdx.x % slicing.slices;
  const int64_t bag =
      int64_t{blockIdx.x / slicing.slices} * (kThreads / slicing.lanes) + group_of_block(group);
  const int64_t chunk = blockIdx.y, chunks = gridDim.y;
  const bool active = bag < bags.count;
  const Span span = active ? chunk_of(bags.begin(bag), bags.end(bag), chunk, chunks) : Span{0, 0};
  const auto count = static_cast<int>(span.end - span.begin);
  const auto max_count = static_cast<int>(reduce_max(static_cast<uint32_t>(count)));
  const int column = Slice::column(group, slice);

  Slice sum;
  add_rows<Caching::streaming, T>(sum, group, count, max_count, column, table.width, [&](int i) {
    return table.entry(bags.indices[span.begin + i], weights[span.begin + i]);
  });
  float* row = row_at(partials ? partials : y, chunk * bags.count + bag, table.width);
#pragma unroll
  for (int v = 0; v < Slice::vectors; ++v)
    store_floats(row, sum.v[v], column + v * group.lanes * Slice::n, table.width, active, aligned);
  if (!partials) return;
  const uint32_t counter = blockIdx.x % kArrivals;
  const auto blocks = static_cast<uint32_t>((gridDim.x - counter + kArrivals - 1) / kArrivals);
  if (!arrives_last(guard, shared<LastBlock>(), counter, blocks * gridDim.y)) return;
  for (int64_t block = counter; block < gridDim.x; block += kArrivals)
    add_chunks(y, partials, slices_of_block<Slice>(block, slicing, bags.count, table.width),
               bags.count, table.width, static_cast<int>(chunks));
}

// One block: kThreads / lanes bags. One lane group: all slices of the rows of one chunk of a bag,
// so that no dot product is split.
template <class T, class Slice>
__global__ void __launch_bounds__(kThreads, kMinBlocks<Slice>)
    embedding_bag_weights_backward_kernel(Guard guard, float* dweights, const float* dy,
                                          BagTable<T> table, Bags bags, Slicing slicing,
                                          bool aligned) {
  if (guard.aborted()) return;
  const LaneGroup group = lane_group(slicing.lanes);
  const int64_t bag = int64_t{blockIdx.x} * (kThreads / slicing.lanes) + group_of_block(group);
  const bool active = bag < bags.count;
  const Span span =
      active ? chunk_of(bags.begin(bag), bags.end(bag), blockIdx.y, gridDim.y) : Span{0, 0};
  const auto max_count = static_cast<int>(reduce_max(static_cast<uint32_t>(span.end - span.begin)));
  const float* dy_row = row_at(dy, bag, table.width);

  Slice x;
  for (int begin = 0; begin < max_count; begin += group.lanes) {
    const int64_t i = span.begin + begin + group.lane;
    const RowEntry<T> own =
        i < span.end ? table.entry(bags.indices[i], 1.0f) : RowEntry<T>{nullptr, 0.0f};
    const int count = max_count - begin < group.lanes ? max_count - begin : group.lanes;
    float product = 0;
    for (int slice = 0; slice < slicing.slices; ++slice) {
      const int column = Slice::column(group, slice);
      if (slicing.slices > 1 || begin == 0) {  // a single slice of dy stays in registers
#pragma unroll
        for (int v = 0; v < Slice::vectors; ++v)
          load_floats(x.v[v], dy_row, column + v * group.lanes * Slice::n, table.width, active,
                      aligned);
      }
      product += dot_rows<T>(x, group, own, count, column, table.width);
    }
    if (i < span.end) dweights[i] = own.row ? own.weight * product : 0.0f;
  }
}

// Calls f(RowSlice{}, slicing) with the slice for rows of `width` elements that can be read in
// packs of n. Rows in flight times packs are eight 16-byte loads a lane, 4 KB a warp: with eight
// warps a multiprocessor they cover the memory's latency at full speed (20 KB). Where both fit,
// four packs, which fetch indices and weights least often.
template <class T, class F>
void with_slice(int n, int64_t width, F f) {
  constexpr int kVec16 = 16 / static_cast<int>(sizeof(T));
  const auto idle_packs = [&](int vectors) {
    const Slicing s = slicing(width / n, vectors);
    return int64_t{s.lanes} * s.slices * vectors - width / n;
  };
  if (n == kVec16) {
    if constexpr (sizeof(T) > 1)  // four packs of int8 are 64 sums: too many registers
      if (idle_packs(4) <= idle_packs(1))
        return f(RowSlice<kVec16, 4, 2>{}, slicing(width / kVec16, 4));
    // of int8, four rows: as floats eight would be more than the registers of a sm_75
    constexpr int kRows = sizeof(T) == 1 ? 4 : 8;
    return f(RowSlice<kVec16, 1, kRows>{}, slicing(width / kVec16, 1));
  }
  // Rows that are no multiple of 16 bytes: by 4 bytes, or by single elements.
  if constexpr (sizeof(T) < 4) {
    constexpr int kBytes4 = 4 / static_cast<int>(sizeof(T));
    if (n >= kBytes4) return f(RowSlice<kBytes4, 4, 4>{}, slicing(width / kBytes4, 4));
  }
  return f(RowSlice<1, 4, 4>{}, slicing(width, 4));
}

Bags bags_of(const View& indices, const View& offsets, int64_t count) {
  return {.indices = indices.as<int32_t>(),
          .offsets = offsets ? offsets.as<int32_t>() : nullptr,
          .count = count,
          .size = offsets ? 0 : indices.dim(1)};
}

template <class T>
BagTable<T> table_of(const View& table, const View& scales) {
  return {.rows = table.as<T>(),
          .scales = scales ? scales.as<float>() : nullptr,
          .width = static_cast<int>(table.dim(1))};
}

template <class F>
void dispatch_table(DType dtype, F f) {
  if (dtype == DType::i8) return f(int8_t{});
  dispatch_float(dtype, f);
}

// Whether rows of float can be accessed in packs of min(n, 4).
bool vec_aligned(const float* rows, int n) {
  return reinterpret_cast<uintptr_t>(rows) % (std::min(n, 4) * sizeof(float)) == 0;
}

}  // namespace

void embedding_bag(CudaStream& stream, const EmbeddingBag& a) {
  const int64_t B = a.y.dim(0), V = a.y.dim(1), entries = a.indices.size();
  if (!a.indices_known) stream.check_indices("embeddingBag", "indices", a.indices, a.table.dim(0));
  if (a.offsets) stream.check_offsets("embeddingBag", a.offsets, entries);
  if (a.y.size() == 0) return;
  const int64_t average = (entries + B - 1) / B;
  const int64_t chunks =
      std::clamp<int64_t>(average / kMinChunkEntries, 1, std::max<int64_t>(1, kFewBags / B));
  float *y = a.y.as<float>(),
        *partials = chunks == 1 ? nullptr : stream.scratch<float>(chunks * B * V);
  dispatch_table(a.table.dtype, [&](auto t) {
    using T = decltype(t);
    const BagTable<T> table = table_of<T>(a.table, a.scales);
    with_slice<T>(widest(table.rows, V), V, [&]<class Slice>(Slice, Slicing s) {
      const dim3 grid(s.slices * blocks_for(B, kThreads / s.lanes), static_cast<unsigned>(chunks));
      launch(embedding_bag_kernel<T, Slice>, grid, dim3(kThreads), partials ? sizeof(LastBlock) : 0,
             stream, y, partials, table, bags_of(a.indices, a.offsets, B), a.weights.as<float>(), s,
             vec_aligned(partials ? partials : y, Slice::n));
    });
  });
}

void embedding_bag_weights_backward(CudaStream& stream, const EmbeddingBagWeightsBackward& a) {
  const int64_t B = a.dy.dim(0), V = a.table.dim(1), entries = a.indices.size();
  if (!a.indices_known)
    stream.check_indices("embeddingBagBackward", "indices", a.indices, a.table.dim(0));
  if (a.offsets) stream.check_offsets("embeddingBagBackward", a.offsets, entries);
  if (B == 0 || entries == 0) return;  // entries without a bag are a fault of the offsets
  dispatch_table(a.table.dtype, [&](auto t) {
    using T = decltype(t);
    const BagTable<T> table = table_of<T>(a.table, a.scales);
    with_slice<T>(widest(table.rows, V), V, [&]<class Slice>(Slice, Slicing s) {
      const int64_t chunks =
          std::clamp<int64_t>(entries / B / s.lanes, 1, std::max<int64_t>(1, kFewBags / B));
      const dim3 grid(blocks_for(B, kThreads / s.lanes), static_cast<unsigned>(chunks));
      launch(embedding_bag_weights_backward_kernel<T, Slice>, grid, dim3(kThreads), 0, stream,
             a.dweights.as<float>(), a.dy.as<float>(), table, bags_of(a.indices, a.offsets, B), s,
             vec_aligned(a.dy.as<float>(), Slice::n));
    });
  });
}

}  // namespace ml::ML_CUDA_NAMESPACE
