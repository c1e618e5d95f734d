// Copies of boxes (core/strided.h): in words of up to 16 bytes where the innermost axis is one on
// both sides, through tiles in shared memory where another axis is the source's innermost.

#include "cuda/strided_copy.h"

#include <algorithm>

#include "cuda/block.cuh"
#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"
#include "cuda/vec.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// A StridedCopy as a kernel's argument.
struct Box {
  int rank;
  int64_t size[kMaxRank] = {}, to[kMaxRank] = {}, from[kMaxRank] = {};
};

Box box_of(const StridedCopy& copy) {
  Box box{.rank = copy.rank};
  std::copy_n(copy.size.begin(), kMaxRank, box.size);
  std::copy_n(copy.to.begin(), kMaxRank, box.to);
  std::copy_n(copy.from.begin(), kMaxRank, box.from);
  return box;
}

struct Offsets {
  int64_t to, from;
};

// Of the element `at` of the first `axes` axes, row-major.
__device__ inline Offsets offsets_of(const Box& box, int axes, int64_t at) {
  Offsets o{0, 0};
#pragma unroll
  for (int a = kMaxRank - 1; a >= 0; --a) {
    if (a >= axes) continue;
    const int64_t rest = at / box.size[a], index = at - rest * box.size[a];
    o.to += index * box.to[a];
    o.from += index * box.from[a];
    at = rest;
  }
  return o;
}

// One thread copies every (gridDim.x * blockDim.x)-th word of n elements; the box counts in words.
template <class T, int n>
__global__ void __launch_bounds__(kThreads)
    copy_words_kernel(Guard guard, T* to, const T* from, Box box, int64_t words) {
  if (guard.aborted()) return;
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < words; i += step) {
    const Offsets o = offsets_of(box, box.rank, i);
    store<n>(to + o.to * n, load<n>(from + o.from * n));
  }
}

// Rows are one bank longer than a tile's, so that a column is in 32 banks.
template <class T>
struct TransposeTile {
  T v[kWarp][kWarp + 4 / sizeof(T)];
};

// The last axes of the box are the innermost of the source (rows) and the innermost of the target
// (columns). One block moves a tile of 32 x 32: a warp reads 32 rows of one column and writes 32
// columns of one row.
template <class T>
__global__ void __launch_bounds__(kThreads)
    copy_tiles_kernel(Guard guard, T* to, const T* from, Box box, int64_t row_tiles,
                      int64_t column_tiles) {
  if (guard.aborted()) return;
  TransposeTile<T>& tile = shared<TransposeTile<T>>();
  const int row_axis = box.rank - 2, column_axis = box.rank - 1;
  const int64_t rows = box.size[row_axis], columns = box.size[column_axis];
  const int64_t column0 = blockIdx.x % column_tiles * kWarp,
                row0 = blockIdx.x / column_tiles % row_tiles * kWarp;
  const Offsets o = offsets_of(box, box.rank - 2, blockIdx.x / (column_tiles * row_tiles));
  for (int i = warp_of_block(); i < kWarp; i += kThreads / kWarp)
    if (column0 + i < columns && row0 + lane() < rows)
      tile.v[i][lane()] = from[o.from + (column0 + i) * box.from[column_axis] + row0 + lane()];
  block_sync();
  for (int i = warp_of_block(); i < kWarp; i += kThreads / kWarp)
    if (row0 + i < rows && column0 + lane() < columns)
      to[o.to + (row0 + i) * box.to[row_axis] + column0 + lane()] = tile.v[lane()][i];
}

// The axis that is the source's innermost, if it is not the last one; else -1.
int source_axis(const Box& box) {
  if (box.to[box.rank - 1] != 1) return -1;
  for (int a = 0; a < box.rank - 1; ++a)
    if (box.from[a] == 1) return a;
  return -1;
}

template <class T>
void copy_tiles(CudaStream& stream, void* to, const void* from, Box box, int axis) {
  for (int64_t* values : {box.size, box.to, box.from})
    std::rotate(values + axis, values + axis + 1, values + box.rank - 1);
  const int64_t row_tiles = (box.size[box.rank - 2] + kWarp - 1) / kWarp,
                column_tiles = (box.size[box.rank - 1] + kWarp - 1) / kWarp;
  int64_t tiles = row_tiles * column_tiles;
  for (int a = 0; a < box.rank - 2; ++a) tiles *= box.size[a];
  launch(copy_tiles_kernel<T>, dim3(grid_width(tiles)), dim3(kThreads), sizeof(TransposeTile<T>),
         stream, static_cast<T*>(to), static_cast<const T*>(from), box, row_tiles, column_tiles);
}

// Whether runs, strides and addresses are multiples of words of so many bytes.
bool fits_words(const Box& box, const void* to, const void* from, int width, int64_t word) {
  const int inner = box.rank - 1;
  if (box.to[inner] != 1 || box.from[inner] != 1) return word == width;
  bool fits = (reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) %
                      static_cast<uintptr_t>(word) ==
                  0 &&
              box.size[inner] * width % word == 0;
  for (int a = 0; a < inner; ++a)
    fits = fits && box.to[a] * width % word == 0 && box.from[a] * width % word == 0;
  return fits;
}

template <class T, int n>
void copy_words(CudaStream& stream, void* to, const void* from, int width, Box box) {
  const int64_t per_word = n * static_cast<int64_t>(sizeof(T)) / width;
  int64_t words = 1;
  for (int a = 0; a < box.rank; ++a) {
    if (a < box.rank - 1) {
      box.to[a] /= per_word;
      box.from[a] /= per_word;
    } else {
      box.size[a] /= per_word;
    }
    words *= box.size[a];
  }
  const unsigned grid =
      striding_blocks(words, kThreads * kPacksPerThread, stream.limits().multiprocessors);
  launch(copy_words_kernel<T, n>, dim3(grid), dim3(kThreads), 0, stream, static_cast<T*>(to),
         static_cast<const T*>(from), box, words);
}

}  // namespace

void strided_copy(CudaStream& stream, void* to, const void* from, int width,
                  const StridedCopy& copy) {
  if (copy.elements() == 0) return;
  const Box box = box_of(copy);
  if (const int axis = source_axis(box); axis >= 0) {
    if (width == 4) return copy_tiles<uint32_t>(stream, to, from, box, axis);
    if (width == 2) return copy_tiles<uint16_t>(stream, to, from, box, axis);
    return copy_tiles<uint8_t>(stream, to, from, box, axis);
  }
  int64_t word = 16;
  while (word > width && !fits_words(box, to, from, width, word)) word /= 2;
  switch (word) {
    case 16: return copy_words<uint32_t, 4>(stream, to, from, width, box);
    case 8: return copy_words<uint32_t, 2>(stream, to, from, width, box);
    case 4: return copy_words<uint32_t, 1>(stream, to, from, width, box);
    case 2: return copy_words<uint16_t, 1>(stream, to, from, width, box);
    default: return copy_words<uint8_t, 1>(stream, to, from, width, box);
  }
}

}  // namespace ml::ML_CUDA_NAMESPACE
