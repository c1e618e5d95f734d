#pragma once
// The CPU's constants: block sizes, grains and thresholds, each with what chose it. Numbers that
// follow from the arithmetic stand where they are used.

#include <cstdint>

namespace ml::cpu {

// ---- Machinery (cpu/)

// ---- Operations (ops/, optim/)
// A grain is the work of one task of Context::parallel_for: long enough to be worth a hand-over
// between threads, short enough that every thread has some.

// SortRows, SparseGradValues, SparseUpdate
constexpr int64_t kSparseGradGrain = 1 << 13;  // entries
constexpr int64_t kSparseGradRowGrain = 64;    // touched rows
constexpr int64_t kHotEntries = 256;           // of a chunk; rows with more are hot
constexpr int64_t kHotScanRows = 64;           // searched for hot rows without a branch for each

}  // namespace ml::cpu
