#pragma once
// The indices of a read of a table (ops/sparse_grad.h) without those of rows that were not chosen.
//   filtered[i] = indices[i] where one of chosen[0 … count - 1] is indices[i], else -1
//     filtered  [as indices]  int32  out
//     indices   [any]         int32  in
//     chosen    [C]           int32  in: ascending up to `count`
//     count     [1]           int32  in
// O(log count) for each index.

#include "ops/operands.h"

namespace ml {

struct FilterRead {
  View filtered, indices, chosen, count;
};

template <class Input>
constexpr void inputs(const FilterRead& a, Input&& input) {
  input("indices", a.indices);
  input("chosen", a.chosen);
  input("count", a.count);
}

inline Outputs<FilterRead, 1> outputs(const FilterRead& a) {
  const char* op = "optimizer.step";
  expect_dtype(op, "indices", a.indices, DType::i32);
  expect_dtype(op, "rows", a.chosen, DType::i32);
  return {op, {{&FilterRead::filtered, "indices", a.indices.shape, DType::i32}}};
}

// Whether x is one of sorted[0 … n - 1].
ML_HOST_DEVICE constexpr bool is_among(const int32_t* sorted, int64_t n, int32_t x) {
  int64_t low = 0, high = n;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (sorted[middle] < x) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < n && sorted[low] == x;
}

}  // namespace ml
