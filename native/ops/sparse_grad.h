#pragma once
// The gradient of a table that was read by bags, without ever being dense. A read is one call of a
// bag: (indices, weights, dy), with offsets where its bags are ragged. Several reads, of several
// layers or batches, merge.
//   SortRows            the touched rows of all reads, by a stable radix sort of (index, position)
//     rows     [C]      int32    out: the R distinct indices, ascending
//     starts   [C + 1]  int32    out: row r has the entries starts[r] … starts[r + 1] of `order`
//     order    [nnz]    int32    out: positions of entries in the concatenated reads, ascending
//                                within a row
//     count    [1]      int32    out: R, which is known only when the operation has run
//   SparseGradValues    values[r, :] = sum over the entries of row r of weight * dy[its bag, :]
//     values   [C, V]   float32  out; rows, starts, order, count: in
//   SparseGradToDense   dense[rows[r], :] += values[r, :], for small tables and tests
//     dense    [N, V]   float32  added to; values, rows, count: in
//   of each read
//     indices  [B, L]   int32    in; ragged bags: [entries]
//     weights  [B, L]   float32  in; ragged bags: [entries]
//     dy       [B, V]   float32  in
//     offsets  [B + 1]  int32    in, of ragged bags only
// Capacity C = min(nnz, N); what is past R is undefined. nnz < 2^31, N < 2^31. Sums run in the
// order of `order`, hot rows (core/limits.h) by chunks: the bits do not depend on threads.
// Index -1 is a padding index: its entry is skipped. Any other index outside [0, N) is
// ERR_INDEX_RANGE, found before anything is written.

#include <algorithm>
#include <vector>

#include "ops/embedding_bag.h"

namespace ml {

struct TableRead {
  View indices, weights, dy, offsets;
  bool indices_known = false;  // in range: they need no check
};

template <class Input>
constexpr void inputs(const std::vector<TableRead>& reads, Input&& input) {
  for (const TableRead& r : reads) {
    input("indices", r.indices);
    input("weights", r.weights);
    input("dy", r.dy);
    input("offsets", r.offsets);
  }
}

struct SortRows {
  View rows, starts, order, count;
  std::vector<TableRead> reads;
  int64_t slots = 0;                        // N
  const char* op = "embeddingBagBackward";  // in messages
  const char* argument = "indices";         // likewise
};

struct SparseGradValues {
  View values, rows, starts, order, count;
  std::vector<TableRead> reads;
  int64_t width = 0;  // V
};

struct SparseGradToDense {
  View dense, values, rows, count;
  int64_t slots = 0;  // N
};

inline int64_t entry_count(const std::vector<TableRead>& reads) {
  int64_t entries = 0;
  for (const TableRead& r : reads) entries += r.indices.size();
  return entries;
}

// Checks indices and weights; returns how many entries there are.
inline int64_t check_reads(const char* op, const std::vector<TableRead>& reads) {
  for (const TableRead& r : reads) {
    check_bags(op, r.indices, r.offsets);
    expect_float32(op, "weights", r.weights, r.indices.shape);
  }
  const int64_t entries = entry_count(reads);
  expect(entries < kIndexLimit, Code::shape, op, "indices", "be fewer than 2^31 in all",
         std::to_string(entries), "Step more often, or use shorter bags.");
  return entries;
}

// Checks all of the reads, of a table of `width` columns.
inline void check_reads(const char* op, const std::vector<TableRead>& reads, int64_t width) {
  check_reads(op, reads);
  for (const TableRead& r : reads)
    expect_float32(op, "dy", r.dy, {check_bags(op, r.indices, r.offsets), width});
}

template <class Input>
constexpr void inputs(const SortRows& a, Input&& input) {
  inputs(a.reads, input);
}

inline Outputs<SortRows, 4> outputs(const SortRows& a) {
  const int64_t entries = check_reads(a.op, a.reads);
  expect_slots(a.op, a.slots);
  const int64_t capacity = std::min(entries, a.slots);
  return {a.op,
          {{&SortRows::rows, "rows", {capacity}, DType::i32},
           {&SortRows::starts, "starts", {capacity + 1}, DType::i32},
           {&SortRows::order, "order", {entries}, DType::i32},
           {&SortRows::count, "count", {1}, DType::i32}}};
}

template <class Input>
constexpr void inputs(const SparseGradValues& a, Input&& input) {
  input("rows", a.rows);
  input("starts", a.starts);
  input("order", a.order);
  input("count", a.count);
  inputs(a.reads, input);
}

inline Outputs<SparseGradValues, 1> outputs(const SparseGradValues& a) {
  const char* op = "embeddingBagBackward";
  check_reads(op, a.reads, a.width);
  return {op, {{&SparseGradValues::values, "values", {a.rows.dim(0), a.width}}}};
}

template <class Input>
constexpr void inputs(const SparseGradToDense& a, Input&& input) {
  input("values", a.values);
  input("rows", a.rows);
  input("count", a.count);
}

inline Outputs<SparseGradToDense, 1> outputs(const SparseGradToDense& a) {
  const char* op = "SparseGrad.toDense";
  expect_rank(op, "values", a.values, 2, "[rows, dim]");
  return {op,
          {{.view = &SparseGradToDense::dense,
            .name = "dense",
            .shape = {a.slots, a.values.dim(1)},
            .added_to = true}}};
}

}  // namespace ml
