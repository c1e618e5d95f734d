#include "cpu/strided_copy.h"

#include <algorithm>
#include <cstring>

#include "cpu/tuning.h"

namespace ml::cpu {
namespace {

// A position in the outer axes of a copy, row-major.
class Position {
 public:
  Position(const StridedCopy& copy, int axes, int64_t at) : copy_(copy), axes_(axes) {
    for (int a = axes - 1; a >= 0; --a) {
      const auto i = static_cast<size_t>(a);
      index_[i] = at % copy.size[i];
      at /= copy.size[i];
      to += index_[i] * copy.to[i];
      from += index_[i] * copy.from[i];
    }
  }
  void advance() {
    for (int a = axes_ - 1; a >= 0; --a) {
      const auto i = static_cast<size_t>(a);
      to += copy_.to[i];
      from += copy_.from[i];
      if (++index_[i] < copy_.size[i]) return;
      to -= copy_.size[i] * copy_.to[i];
      from -= copy_.size[i] * copy_.from[i];
      index_[i] = 0;
    }
  }
  int64_t to = 0, from = 0;

 private:
  const StridedCopy& copy_;
  int axes_;
  Strides index_{};
};

template <class T>
void copy_run(T* to, const T* from, int64_t n, int64_t to_stride, int64_t from_stride) {
  if (to_stride == 1 && from_stride == 1) {
    std::memcpy(to, from, static_cast<size_t>(n) * sizeof(T));
    return;
  }
  for (int64_t i = 0; i < n; ++i) to[i * to_stride] = from[i * from_stride];
}

// Elements begin … end of the box, in the target's order.
template <class T>
void copy_elements(T* to, const T* from, const StridedCopy& copy, int64_t begin, int64_t end) {
  const auto inner = static_cast<size_t>(copy.rank - 1);
  const int64_t n = copy.size[inner];
  Position p(copy, copy.rank - 1, begin / n);
  for (int64_t at = begin; at < end; p.advance()) {
    const int64_t first = at % n, count = std::min(n - first, end - at);
    copy_run(to + p.to + first * copy.to[inner], from + p.from + first * copy.from[inner], count,
             copy.to[inner], copy.from[inner]);
    at += count;
  }
}

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
void copy_tiles(T* to, const T* from, const StridedCopy& copy, int64_t begin, int64_t end) {
  const auto row = static_cast<size_t>(copy.rank - 2), column = row + 1;
  const int64_t rows = copy.size[row], columns = copy.size[column];
  const int64_t blocks = (rows + kTransposeTile - 1) / kTransposeTile;
  for (int64_t at = begin; at < end; ++at) {
    const Position p(copy, copy.rank - 2, at / blocks);
    const int64_t r = at % blocks * kTransposeTile;
    for (int64_t c = 0; c < columns; c += kTransposeTile)
      transpose_tile(to + p.to + r * copy.to[row] + c, from + p.from + c * copy.from[column] + r,
                     copy.to[row], copy.from[column], std::min(rows - r, kTransposeTile),
                     std::min(columns - c, kTransposeTile));
  }
}

// The axis that is the source's innermost, if it is not the last one; else -1.
int source_axis(const StridedCopy& copy) {
  if (copy.to[static_cast<size_t>(copy.rank - 1)] != 1) return -1;
  for (int a = 0; a < copy.rank - 1; ++a)
    if (copy.from[static_cast<size_t>(a)] == 1) return a;
  return -1;
}

// The same copy with axis `axis` moved to the last but one place.
StridedCopy with_rows(StridedCopy copy, int axis) {
  for (Strides* s : {&copy.size, &copy.to, &copy.from})
    std::rotate(s->begin() + axis, s->begin() + axis + 1, s->begin() + copy.rank - 1);
  return copy;
}

template <class T>
void copy_all(KernelContext& ctx, T* to, const T* from, const StridedCopy& copy) {
  const int64_t elements = copy.elements();
  if (elements == 0) return;
  const int axis = source_axis(copy);
  if (axis < 0)
    return ctx.parallel_for(
        elements, kCopyGrain / int64_t{sizeof(T)},
        [&](int64_t begin, int64_t end, int) { copy_elements(to, from, copy, begin, end); });
  const StridedCopy tiled = with_rows(copy, axis);
  const int64_t rows = tiled.size[static_cast<size_t>(tiled.rank - 2)],
                columns = tiled.size[static_cast<size_t>(tiled.rank - 1)],
                blocks = (rows + kTransposeTile - 1) / kTransposeTile;
  ctx.parallel_for(
      elements / (rows * columns) * blocks,
      std::max<int64_t>(1, kElementwiseGrain / (std::min(rows, kTransposeTile) * columns)),
      [&](int64_t begin, int64_t end, int) { copy_tiles(to, from, tiled, begin, end); });
}

}  // namespace

void strided_copy(KernelContext& ctx, void* to, const void* from, int width,
                  const StridedCopy& copy) {
  switch (width) {
    case 4:
      return copy_all(ctx, static_cast<uint32_t*>(to), static_cast<const uint32_t*>(from), copy);
    case 2:
      return copy_all(ctx, static_cast<uint16_t*>(to), static_cast<const uint16_t*>(from), copy);
    default:
      return copy_all(ctx, static_cast<uint8_t*>(to), static_cast<const uint8_t*>(from), copy);
  }
}

}  // namespace ml::cpu
