#pragma once
// Bags on the device, and which tile fits the rows of a table.

#include "core/view.h"
#include "cuda/gather.cuh"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {

// Fixed bags of `size` places, or ragged ones that end at offsets[b + 1].
struct Bags {
  const int32_t* indices;
  const int32_t* offsets;  // nullptr: fixed
  int64_t count, size;

  __device__ int64_t begin(int64_t bag) const { return offsets ? offsets[bag] : bag * size; }
  __device__ int64_t end(int64_t bag) const {
    return offsets ? offsets[bag + 1] : (bag + 1) * size;
  }
};

inline Bags bags_of(const View& indices, const View& offsets, int64_t count) {
  return {indices.as<int32_t>(), offsets ? offsets.as<int32_t>() : nullptr, count,
          offsets ? 0 : indices.dim(1)};
}

// Part `piece` of `pieces` of a bag, as equal as can be.
struct Span {
  int64_t begin, end;
};
__device__ inline Span part_of(int64_t begin, int64_t end, int64_t piece, int64_t pieces) {
  const int64_t size = (end - begin + pieces - 1) / pieces;
  const int64_t from = begin + piece * size, to = from + size;
  return {from < end ? from : end, to < end ? to : end};
}

// A row of `packs` packs over lane groups: the smallest group that holds it, or else slices of a
// whole warp.
struct Slicing {
  int lanes, slices;
};
constexpr Slicing slicing(int64_t packs, int vectors) {
  int lanes = 8;  // shuffles hand out rows eight at a time
  while (lanes < kWarp && lanes * vectors < packs) lanes *= 2;
  return {lanes, static_cast<int>((packs + lanes * vectors - 1) / (lanes * vectors))};
}

// Calls f(Tile{}, slicing) with the tile for rows of `width` elements that can be read in packs of
// n. Rows in flight times packs are eight 16-byte loads a lane, 4 KB a warp: with eight warps a
// multiprocessor they cover the memory's latency at full speed (20 KB). Where both fit, four packs,
// which fetch indices and weights least often.
template <class T, class F>
void with_tile(int n, int64_t width, F f) {
  constexpr int most = 16 / static_cast<int>(sizeof(T));
  const auto idle = [&](int vectors) {
    const Slicing s = slicing(width / n, vectors);
    return int64_t{s.lanes} * s.slices * vectors - width / n;
  };
  if (n == most) {
    if constexpr (sizeof(T) > 1)  // four packs of int8 are 64 sums: too many registers
      if (idle(4) <= idle(1)) return f(Tile<most, 4, 2>{}, slicing(width / n, 4));
    return f(Tile<most, 1, 8>{}, slicing(width / n, 1));
  }
  // Rows that 16 bytes do not divide: by 4 bytes, or one by one.
  if constexpr (sizeof(T) < 4) {
    constexpr int few = 4 / static_cast<int>(sizeof(T));
    if (n >= few) return f(Tile<few, 4, 4>{}, slicing(width / few, 4));
  }
  return f(Tile<1, 4, 4>{}, slicing(width, 4));
}

}  // namespace ml::ML_CUDA_NAMESPACE
