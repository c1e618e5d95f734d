// Copies of boxes (core/strided.h): in words of up to 16 bytes where the innermost axis is one on
// both sides, through tiles in shared memory where another axis is the source's innermost.

#include "cuda/strided_copy.h"

#include "cuda/axes.cuh"
#include "cuda/block.cuh"
#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"
#include "cuda/vec.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// One thread copies every (gridDim.x * blockDim.x)-th word of n elements; the box counts in words.
template <class T, int n>
__global__ void __launch_bounds__(kThreads)
    copy_words_kernel(Guard guard, T* to, const T* from, BoxLoops box, int64_t words) {
  if (guard.aborted()) return;
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < words; i += step) {
    int64_t at[2];
    offsets_of(box, box.rank, i, at);
    store<n>(to + at[0] * n, load<n>(from + at[1] * n));
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
    copy_tiles_kernel(Guard guard, T* to, const T* from, BoxLoops box, int64_t row_tiles,
                      int64_t column_tiles) {
  if (guard.aborted()) return;
  TransposeTile<T>& tile = shared<TransposeTile<T>>();
  const int row_axis = box.rank - 2, column_axis = box.rank - 1;
  const int64_t rows = box.size[row_axis], columns = box.size[column_axis];
  const int64_t column0 = blockIdx.x % column_tiles * kWarp,
                row0 = blockIdx.x / column_tiles % row_tiles * kWarp;
  int64_t at[2];
  offsets_of(box, box.rank - 2, blockIdx.x / (column_tiles * row_tiles), at);
  const int64_t to_stride = box.stride[0][row_axis], from_stride = box.stride[1][column_axis];
  for (int i = warp_of_block(); i < kWarp; i += kThreads / kWarp)
    if (column0 + i < columns && row0 + lane() < rows)
      tile.v[i][lane()] = from[at[1] + (column0 + i) * from_stride + row0 + lane()];
  block_sync();
  for (int i = warp_of_block(); i < kWarp; i += kThreads / kWarp)
    if (row0 + i < rows && column0 + lane() < columns)
      to[at[0] + (row0 + i) * to_stride + column0 + lane()] = tile.v[lane()][i];
}

template <class T>
void copy_tiles(CudaStream& stream, void* to, const void* from, const BoxLoops& box) {
  const int64_t row_tiles = (box.size[box.rank - 2] + kWarp - 1) / kWarp,
                column_tiles = (box.size[box.rank - 1] + kWarp - 1) / kWarp;
  int64_t tiles = row_tiles * column_tiles;
  for (int axis = 0; axis < box.rank - 2; ++axis) tiles *= box.size[axis];
  launch(copy_tiles_kernel<T>, dim3(grid_width(tiles)), dim3(kThreads), sizeof(TransposeTile<T>),
         stream, static_cast<T*>(to), static_cast<const T*>(from), box, row_tiles, column_tiles);
}

// Whether runs, strides and addresses are multiples of words of so many bytes.
bool fits_words(const BoxLoops& box, const void* to, const void* from, int width, int64_t word) {
  const int inner = box.rank - 1;
  if (box.stride[0][inner] != 1 || box.stride[1][inner] != 1) return word == width;
  bool fits = (reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) %
                      static_cast<uintptr_t>(word) ==
                  0 &&
              box.size[inner] * width % word == 0;
  for (int a = 0; a < inner; ++a)
    for (const auto& stride : box.stride) fits = fits && stride[a] * width % word == 0;
  return fits;
}

template <class T, int n>
void copy_words(CudaStream& stream, void* to, const void* from, int width, BoxLoops box) {
  const int64_t per_word = n * static_cast<int64_t>(sizeof(T)) / width;
  int64_t words = 1;
  for (int a = 0; a < box.rank; ++a) {
    if (a < box.rank - 1) {
      for (auto& stride : box.stride) stride[a] /= per_word;
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

void strided_copy(CudaStream& stream, void* to, const void* from, int width, const BoxLoops& box) {
  if (box.count() == 0) return;
  if (const int axis = source_axis(box); axis >= 0) {
    const BoxLoops tiled = with_rows(box, axis);
    if (width == 4) return copy_tiles<uint32_t>(stream, to, from, tiled);
    if (width == 2) return copy_tiles<uint16_t>(stream, to, from, tiled);
    return copy_tiles<uint8_t>(stream, to, from, tiled);
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
