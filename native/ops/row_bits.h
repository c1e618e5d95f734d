#pragma once
// Rows of a table as they are in memory, B bytes each, whatever they mean.
//   ReadRows    bits[r, :] = the bytes of row rows[r]
//     bits        [R, B]   uint8  out
//     table       [N, …]   any    in
//     rows        [R]      int32  in
//   WriteRows   the bytes of row rows[r] = bits[r, :], and of what is kept beside it
//     table       [N, V]   float32 | float16 | bfloat16   updated
//     exact                of a 16-bit table that is trained: its exact values
//                          (optim/exact_rows.h), E bytes a row    updated
//     rows        [R]      int32  in: distinct
//     bits        [R, B]   uint8  in
//     exact_bits  [R, E]   uint8  in, with `exact`
// Index -1 is an empty place, which is neither read nor written; any other index outside [0, N) is
// ERR_INDEX_RANGE, found before anything is written.

#include "ops/embedding_bag.h"
#include "ops/operands.h"

namespace ml {

struct ReadRows {
  View bits, table, rows;
};

struct WriteRows {
  View table, exact, rows, bits, exact_bits;
};

// Of a row; its rows are along the first axis.
inline int64_t row_bytes(const View& table) { return table.bytes() / table.dim(0); }

template <class Input>
constexpr void inputs(const ReadRows& a, Input&& input) {
  input("table", a.table);
  input("rows", a.rows);
}

inline Outputs<ReadRows, 1> outputs(const ReadRows& a) {
  const char* op = "readRows";
  expect_slots(op, a.table.dim(0));
  expect_int32(op, "rows", a.rows, {a.rows.size()});
  return {op, {{&ReadRows::bits, "bits", {a.rows.size(), row_bytes(a.table)}, DType::u8}}};
}

template <class Input>
constexpr void inputs(const WriteRows& a, Input&& input) {
  input("rows", a.rows);
  input("bits", a.bits);
  input("exact bits", a.exact_bits);
}

template <class Output>
constexpr void outputs(const WriteRows& a, Output&& output) {
  output("table", a.table, Write::updated);
  output("exact", a.exact, Write::updated);
}

inline void check(const WriteRows& a) {
  const char* op = "writeRows";
  const int64_t rows = a.rows.size();
  const auto expect_bits = [&](const char* name, const View& bits, const View& of) {
    expect_dtype(op, name, bits, DType::u8);
    expect_shape(op, name, bits, {rows, row_bytes(of)});
  };
  expect_int32(op, "rows", a.rows, {rows});
  expect_bits("bits", a.bits, a.table);
  if (a.exact) expect_bits("exact bits", a.exact_bits, a.exact);
}

}  // namespace ml
