#pragma once
// How often the slots of a layer are read.
//   CountReads   counts[i] += how many of `indices` are i
//     counts   [N]    int32  updated: 31 bits count, the high bit says that the slot was read
//     before indices  [any]  int32  in: of a lookup, in [0, N) or -1, which counts for nothing
//   SlotUsage    statistics of the counts, which start at 0 again; their high bits remember
//     counts   [N]    int32  updated, as above
//     stats    [8]    int32  out: the bits of the float64 numbers of SlotStatistics
// Counts are integers, so no order matters; the statistics of kUsageChunk slots are added in order.
// A count holds 2^31 - 1 reads between two SlotUsages.

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

struct CountReads {
  View counts, indices;
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
}

// A layer makes the counts itself.
inline void check(const CountReads&) {}

template <class Input>
constexpr void inputs(const SlotUsage&, Input&&) {}

template <class Output>
constexpr void outputs(const SlotUsage& a, Output&& output) {
  output("stats", a.stats);
  output("counts", a.counts, Write::updated);
}

inline void check(const SlotUsage&) {}

}  // namespace ml
