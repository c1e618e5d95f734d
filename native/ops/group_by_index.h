#pragma once
// The entries of bags by what they choose: those that choose 0, then 1, and so on, each group in
// the order of its positions. A mixture of experts computes the rows of a group by one product
// (ops/grouped_linear.h), and gathers and returns them by the other outputs.
//   indices    [B, L]   int32  in: which group each entry chooses
//   order      [B * L]  int32  out: the entries by group: positions in `indices`
//   bags       [B * L]  int32  out: the bags of these entries, order[i] / L
//   positions  [B, L]   int32  out: where each entry is in `order`
//   offsets    [G + 1]  int32  out: group g is offsets[g] … offsets[g + 1] of `order`
// B * L < 2^31, G < 2^31. Index -1 is a padding index: its entry is in no group and has position
// -1, and past the last group `order` and `bags` are -1. Any other index outside [0, G) is
// ERR_INDEX_RANGE, found before anything is written.

#include "core/limits.h"
#include "ops/operands.h"

namespace ml {

struct GroupByIndex {
  View order, bags, positions, offsets, indices;
  int64_t groups = 0;  // G
};

template <class Input>
constexpr void inputs(const GroupByIndex& a, Input&& input) {
  input("indices", a.indices);
}

inline Outputs<GroupByIndex, 4> outputs(const GroupByIndex& a) {
  const char* op = "groupByIndex";
  expect_rank(op, "indices", a.indices, 2, "[bags, bag size]");
  expect_dtype(op, "indices", a.indices, DType::i32);
  const int64_t entries = a.indices.size();
  expect(entries < kIndexLimit, Code::shape, op, "indices", "be fewer than 2^31 in all",
         std::to_string(entries));
  expect(a.groups >= 0 && a.groups < kIndexLimit, Code::value, op, "groups", "be in [0, 2^31)",
         std::to_string(a.groups));
  return {op,
          {{&GroupByIndex::order, "out.order", {entries}, DType::i32},
           {&GroupByIndex::bags, "out.bags", {entries}, DType::i32},
           {&GroupByIndex::positions, "out.positions", a.indices.shape, DType::i32},
           {&GroupByIndex::offsets, "out.offsets", {a.groups + 1}, DType::i32}}};
}

}  // namespace ml
