#pragma once
// Clipping by the norm of gradients: a SumSquares for each dense one, a SparseSquares for each of a
// table, then a ClipScale for each.
//   SumSquares   sum += sum of x[i]^2
//     sum   [2]     int32    in, out: the bits of one float64
//     x     [any]   float32  in
//   SparseSquares   sum += sum of the squares of all touched rows' gradients (ops/sparse_grad.h)
//     sum   [2]     int32    in, out: the bits of one float64
//     rows, starts, order, count, reads  in
//   ClipScale    norm[0] = sqrt(sum);   x[i] *= clip_factor(sqrt(sum), max_norm)
//     x     [any]   float32  in, out, optional
//     norm  [1]     float32  out, optional: Inf if it is more than a float32 can be
//     sum   [2]     int32    in: the bits of one float64
// Squares, sum, norm, factor and products are float64, in which no norm of float32 gradients
// overflows or vanishes. A row's gradient is float32, as the update has it. The squares of
// kClipChunk elements are added in order, or of one row, and the sums of these in order: the same
// bits for any number of threads.

#include "ops/sparse_grad.h"

namespace ml {

inline constexpr int64_t kClipChunk = 1 << 14;

struct SumSquares {
  View sum, x;
};

struct SparseSquares {
  View sum, rows, starts, order, count;
  std::vector<TableRead> reads;
  int64_t width = 0;  // V
};

struct ClipScale {
  View x, norm, sum;
  double max_norm = 0;
};

// min(1, max_norm / (norm + 1e-6)); a NaN norm makes every gradient NaN.
ML_HOST_DEVICE constexpr double clip_factor(double norm, double max_norm) {
  const double factor = max_norm / (norm + 1e-6);
  return norm != norm ? norm : (factor < 1.0 ? factor : 1.0);
}

template <class Input>
constexpr void inputs(const SumSquares& a, Input&& input) {
  input("grad", a.x);
}

template <class Output>
constexpr void outputs(const SumSquares& a, Output&& output) {
  output("sum", a.sum, Write::updated);
}

// The optimizer makes the sum and the norm itself, and gradients have been checked.
inline void check(const SumSquares&) {}

template <class Input>
constexpr void inputs(const SparseSquares& a, Input&& input) {
  input("rows", a.rows);
  input("starts", a.starts);
  input("order", a.order);
  input("count", a.count);
  inputs(a.reads, input);
}

template <class Output>
constexpr void outputs(const SparseSquares& a, Output&& output) {
  output("sum", a.sum, Write::updated);
}

inline void check(const SparseSquares& a) { check_reads("clipGradNorm", a.reads, a.width); }

template <class Input>
constexpr void inputs(const ClipScale& a, Input&& input) {
  input("sum", a.sum);
}

template <class Output>
constexpr void outputs(const ClipScale& a, Output&& output) {
  output("grad", a.x, Write::updated);
  output("norm", a.norm);
}

inline void check(const ClipScale&) {}

}  // namespace ml
