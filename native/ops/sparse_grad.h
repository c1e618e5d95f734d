#pragma once
// The gradient of a table that was read by bags, without ever being dense. A read is one bag call:
// (indices, weights, dy). Several reads, of several layers or batches, merge.
//   SortRows        finds the touched rows of all reads: a stable radix sort of (index, position)
//     rows   [C] int32   the R distinct indices, ascending
//     starts [C + 1] int32   the entries of row r in `order` are starts[r] … starts[r + 1]
//     order  [nnz] int32  positions in the reads laid end to end, ascending within a row
//     count  [1] int32    R, known only after the operation ran
//   SparseGradValues
//     values [C, V] float32   values[r, :] = sum over entries of row r, in `order`, of weight *
//     dy[bag of the entry, :]
// Capacity C = min(total entries, N). Entries past R are undefined. Index -1 is skipped; an index
// outside [0, N) is ERR_INDEX_RANGE, found before anything is written. Total entries < 2^31. The
// order of every sum is fixed, so the bits do not depend on threads.

#include <vector>

#include "core/check.h"

namespace ml {

// indices, weights: [B, L], or [nnz] with offsets [B + 1] int32.  dy: [B, V] float32.
struct TableRead {
  View indices, weights, dy, offsets;
};

struct SortRows {
  View rows, starts, order, count;
  std::vector<TableRead> reads;
  int64_t slots = 0;  // N
};

struct SparseGradValues {
  View values, rows, starts, order, count;
  std::vector<TableRead> reads;
};

// dense[rows[r], :] += values[r, :]; for small tables and tests.   dense [N, V] float32
struct SparseGradToDense {
  View dense, values, rows, count;
};

inline int64_t entry_count(const std::vector<TableRead>& reads) {
  int64_t entries = 0;
  for (const TableRead& r : reads) entries += r.indices.size();
  return entries;
}

inline void check_reads(const char* op, const std::vector<TableRead>& reads, int64_t dim) {
  for (const TableRead& r : reads) {
    expect_dtype(op, "indices", r.indices, DType::i32);
    expect_float32(op, "weights", r.weights, r.indices.shape);
    expect_rank(op, "indices", r.indices, r.offsets ? 1 : 2,
                r.offsets ? "[entries]" : "[bags, bag size]");
    const int64_t bags = r.offsets ? r.offsets.size() - 1 : r.indices.dim(0);
    if (dim >= 0) expect_float32(op, "dy", r.dy, {bags, dim});
  }
  expect(entry_count(reads) < (int64_t{1} << 31), Code::shape, op, "indices",
         "be fewer than 2^31 in all", std::to_string(entry_count(reads)),
         "Step more often, or use shorter bags.");
}

inline void check(const SortRows& a) {
  check_reads("embeddingBagBackward", a.reads, -1);
  expect(a.slots < (int64_t{1} << 31), Code::shape, "embeddingBagBackward", "table",
         "have fewer than 2^31 slots", std::to_string(a.slots));
}

inline void check(const SparseGradValues& a) {
  check_reads("embeddingBagBackward", a.reads, a.values.dim(1));
}

inline void check(const SparseGradToDense& a) {
  const char* op = "SparseGrad.toDense";
  expect_rank(op, "values", a.values, 2, "[rows, dim]");
  expect_float32(op, "dense", a.dense, {a.dense.dim(0), a.values.dim(1)});
}

}  // namespace ml
