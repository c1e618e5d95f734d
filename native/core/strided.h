#pragma once
// A copy of a box of elements between two dense tensors: what concat, slice and permute are.

#include <algorithm>

#include "core/axes.h"

namespace ml {

using Strides = std::array<int64_t, kMaxRank>;

inline Strides dense_strides(const Shape& shape) {
  Strides strides{};
  int64_t stride = 1;
  for (int i = shape.rank - 1; i >= 0; --i) {
    strides[static_cast<size_t>(i)] = stride;
    stride *= shape[i];
  }
  return strides;
}

// The elements of a box: of the target (tensor 0) and of the source (tensor 1). The last axis is
// the innermost of the target; at least one axis is left.
using BoxLoops = Loops<2>;

inline BoxLoops box_loops(const Shape& size, const Strides& to, const Strides& from) {
  BoxLoops box;
  for (int a = 0; a < size.rank; ++a) {
    const auto i = static_cast<size_t>(a);
    box.add(size[a], {to[i], from[i]});
  }
  if (box.rank == 0) {
    box.rank = 1;
    box.size[0] = box.stride[0][0] = box.stride[1][0] = 1;
  }
  return box;
}

// The axis that is the source's innermost, if it is not the last one; else -1.
inline int source_axis(const BoxLoops& box) {
  if (box.stride[0][box.rank - 1] != 1) return -1;
  for (int a = 0; a < box.rank - 1; ++a)
    if (box.stride[1][a] == 1) return a;
  return -1;
}

// The same box with axis `axis` moved to be the last but one.
inline BoxLoops with_rows(BoxLoops box, int axis) {
  for (int64_t* values : {box.size, box.stride[0], box.stride[1]})
    std::rotate(values + axis, values + axis + 1, values + box.rank - 1);
  return box;
}

// A box of `size` elements from `begin` on in a tensor of this shape: where it begins.
inline int64_t box_offset(const Shape& shape, const Shape& begin) {
  const Strides strides = dense_strides(shape);
  int64_t offset = 0;
  for (int a = 0; a < shape.rank; ++a) offset += begin[a] * strides[static_cast<size_t>(a)];
  return offset;
}

// The copy of a whole box between two tensors.
inline BoxLoops box_copy(const Shape& size, const Shape& to, const Shape& from) {
  return box_loops(size, dense_strides(to), dense_strides(from));
}

}  // namespace ml
