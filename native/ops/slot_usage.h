#pragma once
// How often slots are read.
//   CountReads   counts[i] += how many of `indices` are i; of a batch whose reads are counted by
//                batches, too: batches[i] += 1 if any index is i, and total[0] += 1
//     counts   [N]    int32  updated: 31 bits count, the high bit says that the slot was read
//     before batches  [N]    int32  updated, optional, and with it:
//     marks    [N, 2] int32  updated: the bits of ~(the last batch that read the slot), a uint64
//     total    [1]    int32  updated
//     touched  [N]    int32  updated: the slots with reads, each once, in any order
//     sums     [4]    int32  updated: the bits of the uint64 numbers of ReadSums
//     indices  [any]  int32  in: in [0, N), or -1, which counts for nothing. Any other index is
//     skipped where they are those of a lookup; with `batches` it is ERR_INDEX_RANGE, found before
//     anything is written.
//   ListReads    touched and sums, as above, of counts [N] int32 that were loaded: in O(N)
//   SlotUsage    statistics of the counts, which start at 0 again; their high bits remember
//     counts   [N]    int32  updated, as above
//     stats    [8]    int32  out: the bits of the float64 numbers of SlotStatistics
// Counts are integers, so no order matters; the statistics of kUsageChunk slots are added in order.
// A count holds 2^31 - 1 reads between two SlotUsages.

#include "ops/embedding_bag.h"
#include "ops/operands.h"

namespace ml {

inline constexpr int64_t kUsageChunk = 1 << 14;
inline constexpr uint32_t kReadBefore = uint32_t{1} << 31;

struct SlotStatistics {
  double reads;  // entries since the last SlotUsage
  double slots;  // distinct ones among them
  double ever;   // slots that were read at any time
  double logs;   // sum of count * ln(count): the entropy is ln(reads) - logs / reads
};
inline constexpr int kSlotStatistics = sizeof(SlotStatistics) / sizeof(double);

// What is known of the reads without going through the slots.
struct ReadSums {
  uint64_t slots;    // with reads: so many elements of `touched` count
  uint64_t entries;  // reads of all slots
};

struct CountReads {
  View counts, batches, marks, total, touched, sums, indices;
  int64_t batch = 0;  // ascends from call to call, from 1 on
};

inline uint64_t batch_mark(const CountReads& a) { return ~static_cast<uint64_t>(a.batch); }

struct ListReads {
  View touched, sums, counts;
};

struct SlotUsage {
  View stats, counts;
};

template <class Input>
constexpr void inputs(const CountReads& a, Input&& input) {
  input("indices", a.indices);
}

template <class Output>
constexpr void outputs(const CountReads& a, Output&& output) {
  output("counts", a.counts, Write::updated);
  output("batches", a.batches, Write::updated);
  output("marks", a.marks, Write::updated);
  output("total", a.total, Write::updated);
  output("touched", a.touched, Write::updated);
  output("sums", a.sums, Write::updated);
}

// The counts are made by a layer, which counts the indices of its lookup, or by a SlotCounter.
inline void check(const CountReads& a) {
  const char* op = "SlotCounter.add";
  expect_dtype(op, "indices", a.indices, DType::i32);
  if (!a.batches) return;
  const int64_t slots = a.counts.size();
  expect_slots(op, slots);
  expect_int32(op, "reads", a.counts, {slots});
  expect_int32(op, "batches", a.batches, {slots});
  expect_int32(op, "marks", a.marks, {slots, 2});
  expect_int32(op, "total", a.total, {1});
  expect_int32(op, "touched", a.touched, {slots});
  expect_int32(op, "sums", a.sums, {4});
}

template <class Input>
constexpr void inputs(const ListReads& a, Input&& input) {
  input("counts", a.counts);
}

template <class Output>
constexpr void outputs(const ListReads& a, Output&& output) {
  output("touched", a.touched, Write::updated);
  output("sums", a.sums, Write::updated);
}

inline void check(const ListReads& a) {
  const char* op = "SlotCounter.loadStateDict";
  expect_dtype(op, "reads", a.counts, DType::i32);
  expect_int32(op, "touched", a.touched, {a.counts.size()});
  expect_int32(op, "sums", a.sums, {4});
}

template <class Input>
constexpr void inputs(const SlotUsage&, Input&&) {}

template <class Output>
constexpr void outputs(const SlotUsage& a, Output&& output) {
  output("stats", a.stats);
  output("counts", a.counts, Write::updated);
}

inline void check(const SlotUsage&) {}

}  // namespace ml
