#include "cpu/strided_copy.h"

#include <cstring>

#include "cpu/tuning.h"

#ifdef ML_ISA
#include "cpu/pieces.h"

namespace ml::cpu::ML_ISA {
namespace {

template <class T>
[[maybe_unused]] void copy_run(T* to, const T* from, int64_t n, int64_t to_stride,
                               int64_t from_stride) {
  if (to_stride == 1 && from_stride == 1) {
    std::memcpy(to, from, static_cast<size_t>(n) * sizeof(T));
    return;
  }
  for (int64_t i = 0; i < n; ++i) to[i * to_stride] = from[i * from_stride];
}

// Elements begin … end of the box, in the target's order.
template <class T>
[[maybe_unused]] void copy_elements(T* to, const T* from, const BoxLoops& box, int64_t begin,
                                    int64_t end) {
  const int inner = box.rank - 1;
  for_pieces(box, begin, end, [&](int64_t, int64_t count, const int64_t(&offset)[2]) {
    copy_run(to + offset[0], from + offset[1], count, box.stride[0][inner], box.stride[1][inner]);
  });
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include <algorithm>

#define ML_ISA_SOURCE "cpu/strided_copy.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {
namespace {

// One tile, by way of a copy: rows that are whole pages apart share few sets of a cache.
template <class T>
void transpose_tile(T* to, const T* from, int64_t to_stride, int64_t from_stride, int64_t rows,
                    int64_t columns) {
  T tile[kTransposeTile][kTransposeTile + 1];
  for (int64_t c = 0; c < columns; ++c)
    for (int64_t r = 0; r < rows; ++r) tile[r][c] = from[c * from_stride + r];
  for (int64_t r = 0; r < rows; ++r)
    std::memcpy(to + r * to_stride, tile[r], static_cast<size_t>(columns) * sizeof(T));
}

// A copy whose last two axes are: the innermost of the source, the innermost of the target.
// Blocks begin … end of the target's rows of kTransposeTile.
template <class T>
void copy_tiles(T* to, const T* from, const BoxLoops& box, int64_t begin, int64_t end) {
  const int row = box.rank - 2, column = row + 1;
  const int64_t rows = box.size[row], columns = box.size[column], to_stride = box.stride[0][row],
                from_stride = box.stride[1][column];
  const int64_t blocks = (rows + kTransposeTile - 1) / kTransposeTile;
  BoxLoops outer = box;
  outer.rank -= 2;
  for (int64_t at = begin; at < end; ++at) {
    const int64_t r = at % blocks * kTransposeTile;
    T* tile_to = to + outer.offset(0, at / blocks) + r * to_stride;
    const T* tile_from = from + outer.offset(1, at / blocks) + r;
    for (int64_t c = 0; c < columns; c += kTransposeTile)
      transpose_tile(tile_to + c, tile_from + c * from_stride, to_stride, from_stride,
                     std::min(rows - r, kTransposeTile), std::min(columns - c, kTransposeTile));
  }
}

template <class T>
void copy_all(KernelContext& ctx, T* to, const T* from, const BoxLoops& box) {
  const int64_t elements = box.count();
  if (elements == 0) return;
  const int axis = source_axis(box);
  if (axis < 0) {
    const auto copy = ML_DISPATCH(copy_elements<T>);
    return ctx.parallel_for(
        elements, kCopyGrain / int64_t{sizeof(T)},
        [&](int64_t begin, int64_t end, int) { copy(to, from, box, begin, end); });
  }
  const BoxLoops tiled = with_rows(box, axis);
  const int64_t rows = tiled.size[tiled.rank - 2], columns = tiled.size[tiled.rank - 1],
                blocks = (rows + kTransposeTile - 1) / kTransposeTile;
  ctx.parallel_for(
      elements / (rows * columns) * blocks,
      std::max<int64_t>(1, kElementwiseGrain / (std::min(rows, kTransposeTile) * columns)),
      [&](int64_t begin, int64_t end, int) { copy_tiles(to, from, tiled, begin, end); });
}

}  // namespace

void strided_copy(KernelContext& ctx, void* to, const void* from, int width, const BoxLoops& box) {
  switch (width) {
    case 4:
      return copy_all(ctx, static_cast<uint32_t*>(to), static_cast<const uint32_t*>(from), box);
    case 2:
      return copy_all(ctx, static_cast<uint16_t*>(to), static_cast<const uint16_t*>(from), box);
    default:
      return copy_all(ctx, static_cast<uint8_t*>(to), static_cast<const uint8_t*>(from), box);
  }
}

}  // namespace ml::cpu
#endif
