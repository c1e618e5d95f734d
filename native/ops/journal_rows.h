#pragma once
// Keeps the bits of rows of a table before they are written for the first time. For each of the
// rows that has no mark: it gets one, and is added to the journal with its bits.
//     marks           [N]      uint8  updated: 1 for a row that is in the journal
//     journal_rows    [C]      int32  updated: the rows in the journal, in any order
//     journal_count   [1]      int32  updated: how many there are; at most C with those of `rows`
//     journal_bits    [C, B]   uint8  updated: their bits, B bytes each
//     journal_exact   [C, E]   uint8  updated, with `exact`
//     table           [N, V]   float32 | float16 | bfloat16  in
//     exact                    of a 16-bit table: its exact values (optim/exact_rows.h), E bytes a
//                              row    in
//     rows            [R]      int32  in: distinct, in [0, N)
//     row_count       [1]      int32  in, optional: how many of the rows count, else all

#include "ops/row_bits.h"

namespace ml {

struct JournalRows {
  View marks, journal_rows, journal_count, journal_bits, journal_exact;
  View table, exact, rows, row_count;
};

template <class Input>
constexpr void inputs(const JournalRows& a, Input&& input) {
  input("table", a.table);
  input("exact", a.exact);
  input("rows", a.rows);
  input("row count", a.row_count);
}

template <class Output>
constexpr void outputs(const JournalRows& a, Output&& output) {
  output("marks", a.marks, Write::updated);
  output("journal rows", a.journal_rows, Write::updated);
  output("journal count", a.journal_count, Write::updated);
  output("journal bits", a.journal_bits, Write::updated);
  output("journal exact", a.journal_exact, Write::updated);
}

// A table's journal makes the arguments itself.
inline void check(const JournalRows&) {}

}  // namespace ml
