#pragma once
// Clipping by the norm of gradients: a SumSquares of all dense ones, a SparseSquares for each of a
// table, then a ClipScale of all.
//   SumSquares   sum = sum of x[i]^2, of each x
//     sum   [2]     int32    out: the bits of one float64
//     x     [any]   float32  in
//   SparseSquares   sum += sum of the squares of all touched rows' gradients (ops/sparse_grad.h)
//     sum   [2]     int32    in, out: the bits of one float64
//     rows, starts, order, count, reads  in
//   ClipScale    norm[0] = sqrt(s);   x[i] *= clip_factor(sqrt(s), max_norm), of each x, where s is
//                the sum of all sums, in their order: of gradients here, and of parts of them that
//                other ranks have
//     x     [any]   float32  in, out
//     norm  [1]     float32  out: Inf if it is more than a float32 can be
//     sum   [2 n]   int32    in: the bits of n float64, n >= 1
// Squares, sum, norm, factor and products are float64, in which no norm of float32 gradients
// overflows or vanishes. A row's gradient is float32, as the update has it. The squares of
// kClipChunk elements of one x, or of one row, are added in a fixed order, and so are the sums of
// these: the same bits for any number of threads.

#include <vector>

#include "ops/sparse_grad.h"

namespace ml {

inline constexpr int64_t kClipChunk = 1 << 14;

struct SumSquares {
  View sum;
  std::vector<View> xs;
};

struct SparseSquares {
  View sum, rows, starts, order, count;
  std::vector<TableRead> reads;
  int64_t width = 0;  // V
};

struct ClipScale {
  // The caller has seen to it that the gradients share no memory.
  static constexpr bool kApart = true;

  View norm, sum;
  std::vector<View> xs;
  double max_norm = 0;
};

// min(1, max_norm / (norm + 1e-6)); a NaN norm makes every gradient NaN.
ML_HOST_DEVICE constexpr double clip_factor(double norm, double max_norm) {
  const double factor = max_norm / (norm + 1e-6);
  return norm != norm ? norm : (factor < 1.0 ? factor : 1.0);
}

ML_HOST_DEVICE inline double total_of(const double* sums, int64_t count) {
  double total = sums[0];
  for (int64_t i = 1; i < count; ++i) total += sums[i];
  return total;
}

template <class Input>
constexpr void inputs(const SumSquares& a, Input&& input) {
  for (const View& x : a.xs) input("grad", x);
}

template <class Output>
constexpr void outputs(const SumSquares& a, Output&& output) {
  output("sum", a.sum);
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
  output("norm", a.norm);
  for (const View& x : a.xs) output("grad", x, Write::updated);
}

inline void check(const ClipScale& a) {
  const char* op = "clipGradNorm";
  expect_dtype(op, "sum", a.sum, DType::i32);
  expect(a.sum.size() >= 2 && a.sum.size() % 2 == 0, Code::shape, op, "sum",
         "have two elements for each sum", to_string(a.sum.shape));
}

}  // namespace ml
