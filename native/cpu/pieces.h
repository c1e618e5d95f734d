// Walks of several tensors along the same axes (core/axes.h), a piece of the innermost axis at a
// time. Included inside an instruction-set pass, like simd.h.

#if defined(ML_CPU_PIECES_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_CPU_PIECES_H
#undef ML_CPU_PIECES_H
#else
#define ML_CPU_PIECES_H
#endif

#include "core/axes.h"

namespace ml::cpu::ML_ISA {
namespace {

// The elements begin … end in order: f(i, count, offsets) for `count` of them from the i-th on,
// which follow one another along the innermost axis; offsets: of the i-th in each tensor.
template <int kTensors, class F>
[[maybe_unused]] inline void for_pieces(const Loops<kTensors>& loops, int64_t begin, int64_t end,
                                        F&& f) {
  if (begin >= end) return;
  int64_t index[kMaxRank] = {}, offset[kTensors] = {};
  const int last = loops.rank - 1;
  if (last < 0) {
    f(begin, int64_t{1}, offset);
    return;
  }
  int64_t rest = begin;
  for (int axis = last; axis >= 0; rest /= loops.size[axis--]) {
    index[axis] = rest % loops.size[axis];
    for (int t = 0; t < kTensors; ++t) offset[t] += index[axis] * loops.stride[t][axis];
  }
  for (int64_t i = begin; i < end;) {
    const int64_t left = loops.size[last] - index[last], count = left < end - i ? left : end - i;
    f(i, count, offset);
    i += count;
    // to the next index of the axes outside the innermost
    for (int t = 0; t < kTensors; ++t) offset[t] -= index[last] * loops.stride[t][last];
    index[last] = 0;
    for (int axis = last - 1; axis >= 0; --axis) {
      const bool ends = ++index[axis] == loops.size[axis];
      for (int t = 0; t < kTensors; ++t)
        offset[t] += ends ? -(index[axis] - 1) * loops.stride[t][axis] : loops.stride[t][axis];
      if (!ends) break;
      index[axis] = 0;
    }
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
