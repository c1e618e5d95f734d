#pragma once
// The update rules (kernels: optim/<rule>.h) applied to a dense parameter or to the touched rows of
// a table. All arithmetic is float32. `step` [1] int32 lives on the device and counts from 1:
// StepAdvance adds one before the updates of a step.
//
//   DenseUpdate    param, grad [any] float32; state1, state2 [same] float32 as the rule needs
//   SparseUpdate   table [N, V] float32, or float16 | bfloat16 with master [N, V] float32: the
//   exact values, of which the table holds the rounded ones.
//                  state1, state2 [N, V] float32 (row-wise Adagrad: state1 [N]). rows, starts,
//                  order, count, reads: ops/sparse_grad.h. For each touched row the gradient is
//                  summed as SparseGradValues would, and the row is updated once. O(touched rows).
//                  `every_row`: rows that were not touched are updated too, with gradient 0
//                  (AdamW's tableMode 'dense'). O(N).
//   SumSquares     out[0] += sum of x[i]^2, in float64 by fixed pieces, stored as float32
//   ClipScale      x[i] *= min(1, max_norm / (sqrt(sum[0]) + 1e-6)); norm[0] = sqrt(sum[0])   (both
//   optional)

#include <vector>

#include "core/check.h"
#include "ops/sparse_grad.h"

namespace ml {

enum class Rule : uint8_t { sgd, adagrad, rowwise_adagrad, adamw };

struct Hyper {
  float lr = 0, beta1 = 0.9f, beta2 = 0.999f, eps = 1e-8f, weight_decay = 0;
};

struct StepAdvance {
  View step;
};

struct DenseUpdate {
  View param, grad, state1, state2, step;
  Rule rule = Rule::sgd;
  Hyper hyper;
};

struct SparseUpdate {
  View table, master, state1, state2, step;
  View rows, starts, order, count;
  std::vector<TableRead> reads;
  Rule rule = Rule::sgd;
  Hyper hyper;
  bool every_row = false;
};

struct SumSquares {
  View out, x;
  View count;  // optional [1] int32: only the first count[0] rows of x [C, V] are summed
};

struct ClipScale {
  View x, norm, sum;
  float max_norm = 0;
};

// The layer makes the states and gradients itself; what can go wrong is the caller's.
inline void check(const StepAdvance&) {}

inline void check(const DenseUpdate& a) {
  expect_float32("optimizer.step", "grad", a.grad, a.param.shape);
  expect_dtype("optimizer.step", "parameter", a.param, DType::f32);
}

inline void check(const SparseUpdate& a) { check_reads("optimizer.step", a.reads, a.table.dim(1)); }

inline void check(const SumSquares&) {}

inline void check(const ClipScale&) {}

}  // namespace ml
