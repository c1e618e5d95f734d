#pragma once
// Axes of dense tensors: NumPy's broadcasting, sets of axes, and loops over the elements of several
// tensors at once.

#include "core/check.h"

namespace ml {

// A set of axes: axis i is bit i.
using AxisSet = uint32_t;

constexpr bool has_axis(AxisSet axes, int axis) { return (axes >> axis & 1) != 0; }

// The shape that x and y are broadcast to: axes are matched from the last, and a size of 1, or an
// axis that is missing, stands for any size. `arg` is the one of shape y.
inline Shape broadcast(const char* op, const char* arg, const Shape& x, const Shape& y) {
  Shape out;
  out.rank = x.rank > y.rank ? x.rank : y.rank;
  for (int back = 1; back <= out.rank; ++back) {
    const int64_t size_x = back <= x.rank ? x[-back] : 1, size_y = back <= y.rank ? y[-back] : 1;
    expect(size_x == size_y || size_x == 1 || size_y == 1, Code::shape, op, arg,
           "have a shape that broadcasts with " + to_string(x), to_string(y),
           "Axes are matched from the last: their sizes are the same, or one of them is 1.");
    out.dims[out.rank - back] = size_x == 1 ? size_y : size_x;
  }
  return out;
}

// Whether a tensor that is broadcast to `rank` axes has one entry for all of this axis.
inline bool is_broadcast(const Shape& shape, int rank, int axis) {
  const int own = axis - (rank - shape.rank);
  return own < 0 || shape.dims[own] == 1;
}

// Elements from one index of the axis to the next, 0 where the tensor is broadcast. `entry`: the
// elements of an entry, of which the tensor has `shape`.
inline int64_t broadcast_stride(const Shape& shape, int rank, int axis, int64_t entry = 1) {
  if (is_broadcast(shape, rank, axis)) return 0;
  int64_t stride = entry;
  for (int i = axis - (rank - shape.rank) + 1; i < shape.rank; ++i) stride *= shape.dims[i];
  return stride;
}

// Axes, the outermost first, and how far each tensor moves along them. Axes of size 1 are left out,
// and those that every tensor walks as one are one.
template <int kTensors>
struct Loops {
  int rank = 0;
  int64_t size[kMaxRank] = {};
  int64_t stride[kTensors][kMaxRank] = {};  // elements

  // An axis inside those before it.
  void add(int64_t axis_size, const int64_t (&strides)[kTensors]) {
    if (axis_size == 1) return;
    bool as_one = rank > 0;
    for (int t = 0; as_one && t < kTensors; ++t)
      as_one = stride[t][rank - 1] == strides[t] * axis_size;
    if (!as_one) size[rank++] = 1;
    size[rank - 1] *= axis_size;
    for (int t = 0; t < kTensors; ++t) stride[t][rank - 1] = strides[t];
  }
  int64_t count() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= size[i];
    return n;
  }
  // The element of a tensor at the i-th index of all axes.
  int64_t offset(int tensor, int64_t i) const {
    int64_t at = 0;
    for (int axis = rank - 1; axis >= 0; i /= size[axis--])
      at += i % size[axis] * stride[tensor][axis];
    return at;
  }
};

// x and y as they are walked for each element of `out`, to which both are broadcast.
inline Loops<2> broadcast_loops(const Shape& out, const Shape& x, const Shape& y) {
  Loops<2> loops;
  for (int i = 0; i < out.rank; ++i)
    loops.add(out.dims[i], {broadcast_stride(x, out.rank, i), broadcast_stride(y, out.rank, i)});
  return loops;
}

}  // namespace ml
