#pragma once
// A copy of a box of elements between two dense tensors: what concat, slice and permute are.

#include "core/view.h"

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

// Axis a has size[a] elements, which are to[a] elements apart in the target, and from[a] in the
// source. The last axis is the innermost of the target.
struct StridedCopy {
  int rank = 0;
  Strides size{}, to{}, from{};

  int64_t elements() const {
    int64_t n = 1;
    for (int a = 0; a < rank; ++a) n *= size[static_cast<size_t>(a)];
    return n;
  }
};

// The same copy without axes of one element, and with neighbouring axes merged where they are
// one axis on both sides; at least one axis is left.
inline StridedCopy simplified(const StridedCopy& copy) {
  StridedCopy s;
  for (size_t a = 0; a < static_cast<size_t>(copy.rank); ++a) {
    if (copy.size[a] == 1) continue;
    const auto last = static_cast<size_t>(s.rank - 1);
    if (s.rank > 0 && s.to[last] == copy.to[a] * copy.size[a] &&
        s.from[last] == copy.from[a] * copy.size[a]) {
      s.size[last] *= copy.size[a];
      s.to[last] = copy.to[a];
      s.from[last] = copy.from[a];
      continue;
    }
    const auto next = static_cast<size_t>(s.rank++);
    s.size[next] = copy.size[a];
    s.to[next] = copy.to[a];
    s.from[next] = copy.from[a];
  }
  if (s.rank == 0) {
    s.rank = 1;
    s.size[0] = s.to[0] = s.from[0] = 1;
  }
  return s;
}

// A box of `size` elements from `begin` on in a tensor of this shape: where it begins.
inline int64_t box_offset(const Shape& shape, const Shape& begin) {
  const Strides strides = dense_strides(shape);
  int64_t offset = 0;
  for (int a = 0; a < shape.rank; ++a) offset += begin[a] * strides[static_cast<size_t>(a)];
  return offset;
}

// The copy of a whole box between two tensors.
inline StridedCopy box_copy(const Shape& size, const Shape& to, const Shape& from) {
  return simplified(
      {.rank = size.rank, .size = size.dims, .to = dense_strides(to), .from = dense_strides(from)});
}

}  // namespace ml
