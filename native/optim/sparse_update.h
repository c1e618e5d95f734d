#pragma once
// One optimizer step of a value table, for its touched rows only: O(R), not O(N).
//   g = values[r, :] as SparseGradValues sums it;  table[rows[r], :] = rule(row, g, states, s)
//     table          [N, V]  float32 | float16 | bfloat16  in, out
//     exact          of a 16-bit table: what its exact values need beside it (optim/exact_rows.h)
//                            in, out
//     state1, state2 [N, V]  float32  in, out, as the rule needs (row-wise Adagrad: state1 [N])
//     step           [1]     int32    in; s = next_step(step[0])
//     rate           [1]     float32  in, optional: the learning rate, in place of that in hyper
//     rows, starts, order, count, reads  in: ops/sparse_grad.h
// Each touched row is updated once. `every_row`: the rows that were not touched are updated too,
// with gradient 0 (AdamW's tableMode 'dense'), in O(N).

#include <vector>

#include "core/split_float.h"
#include "ops/sparse_grad.h"
#include "optim/rule.h"

namespace ml {

struct SparseUpdate {
  View table, exact, state1, state2, step, rate;
  View rows, starts, order, count;
  std::vector<TableRead> reads;
  Rule rule = Rule::sgd;
  Hyper hyper;
  bool every_row = false;
};

template <class Input>
constexpr void inputs(const SparseUpdate& a, Input&& input) {
  input("step", a.step);
  input("rate", a.rate);
  input("rows", a.rows);
  input("starts", a.starts);
  input("order", a.order);
  input("count", a.count);
  inputs(a.reads, input);
}

template <class Output>
constexpr void outputs(const SparseUpdate& a, Output&& output) {
  output("table", a.table, Write::updated);
  output("exact", a.exact, Write::updated);
  output("state1", a.state1, Write::updated);
  output("state2", a.state2, Write::updated);
}

inline void check(const SparseUpdate& a) { check_reads("optimizer.step", a.reads, a.table.dim(1)); }

}  // namespace ml
