#pragma once
// A tensor with its axes in another order: axis a of `out` is axis axes[a] of x.
//   x     [any]            any dtype  in
//   out   [x.dim(axes…)]   as x       out

#include "core/strided.h"
#include "ops/operands.h"

namespace ml {

struct Permute {
  View out, x;
  Shape axes;  // a permutation of 0 … rank - 1
};

template <class Input>
constexpr void inputs(const Permute& a, Input&& input) {
  input("x", a.x);
}

inline Outputs<Permute, 1> outputs(const Permute& a) {
  const int rank = a.x.shape.rank;
  Shape shape = a.x.shape;
  unsigned seen = 0;
  for (int i = 0; i < rank && a.axes.rank == rank; ++i) {
    if (a.axes[i] < 0 || a.axes[i] >= rank) break;
    seen |= 1u << a.axes[i];
    shape.dims[static_cast<size_t>(i)] = a.x.dim(static_cast<int>(a.axes[i]));
  }
  expect(a.axes.rank == rank && seen == (1u << rank) - 1, Code::value, "permute", "axes",
         "have each axis of " + to_string(a.x.shape) + " once", to_string(a.axes));
  return {"permute", {{&Permute::out, "out", shape, a.x.dtype}}};
}

inline BoxLoops permuted_copy(const Permute& a) {
  const Strides own = dense_strides(a.x.shape);
  Strides from{};
  for (int i = 0; i < a.out.shape.rank; ++i)
    from[static_cast<size_t>(i)] = own[static_cast<size_t>(a.axes[i])];
  return box_loops(a.out.shape, dense_strides(a.out.shape), from);
}

}  // namespace ml
