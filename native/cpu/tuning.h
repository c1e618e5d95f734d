#pragma once
// The CPU's constants: block sizes, grains and thresholds, each with what chose it. Numbers that
// follow from the arithmetic stand where they are used.

#include <cstdint>

namespace ml::cpu {

// ---- Machinery (cpu/)

// ---- Operations (ops/, optim/)
// A grain is the work of one task of Context::parallel_for: enough to be worth a hand-over between
// threads, and little enough that every thread gets some. It changes no result, unless it says so.

// Elements: the fewer, the more arithmetic each takes.
constexpr int64_t kCopyGrain = 1 << 18;
constexpr int64_t kFillGrain = 1 << 17;
constexpr int64_t kElementwiseGrain = 1 << 15;  // add, copy between dtypes
constexpr int64_t kDenseUpdateGrain = 1 << 14;
constexpr int64_t kActivationGrain = 1 << 13;    // an exp for each element: activations, SiLU gate
constexpr int64_t kRowGrain = 1 << 13;           // of whole rows: softmax, norm, gate, top-k
constexpr int64_t kCrossEntropyGrain = 1 << 12;  // of whole rows
constexpr int64_t kRandomFillGrain = 1 << 12;    // groups of four elements

// Partial sums of a reduction over all threads. Their cut does not depend on the number of threads,
// so neither do the bits of the sum.
constexpr int64_t kSumSquaresChunk = 1 << 14;  // elements of one
constexpr int64_t kMaxGainPartials = 64;       // of a norm's dgain, each of kRowGrain or more

constexpr int64_t kBiasColumns = 64;     // of one task of linear's dbias: whole vectors
constexpr int64_t kAttentionGrain = 16;  // queries
constexpr int64_t kPeerGrain = 8;        // tokens

// EmbeddingBag. With fewer bags than kBagTasksPerThread for each thread, columns are divided too.
constexpr int64_t kBagGrain = 1024;  // entries, about
constexpr int64_t kBagTasksPerThread = 4;
constexpr int64_t kBagMinColumns = 64;  // of one task, where columns are divided
constexpr int64_t kBagMaxColumns = 256;

// ProductKeyLookup
constexpr int64_t kBlockScoreBytes = 256 << 10;  // of a block of tokens: half of a small L2
constexpr int64_t kKeyGrain = 256;               // half-keys, where the tokens are few
constexpr int64_t kPackGrain = 8;                // panels of packed half-keys
constexpr int64_t kLookupBackwardGrain = 16;     // (token, head) pairs
constexpr int64_t kKeyGradientGrain = 16;        // half-keys

// SortRows, SparseGradValues, SparseUpdate
constexpr int64_t kSparseGradGrain = 1 << 13;  // entries
constexpr int64_t kSparseGradRowGrain = 64;    // touched rows
constexpr int64_t kHotScanRows = 64;           // searched for hot rows without a branch for each
// Entries of a chunk; a row with more is hot. It fixes the order of a hot row's sum.
constexpr int64_t kHotEntries = 256;

// SparseUpdate. Rows and states are prefetched twice: into L2, then into L1d, since the stores of
// the update wait for lines there (docs/decisions/0005: from 16 to 128 rows ahead, the distance
// into L2 makes no difference).
constexpr int64_t kSparseUpdateGrain = 256;      // rows
constexpr int64_t kMeanSquareGrain = 32;         // rows of dy
constexpr int64_t kUpdateL2Bytes = 16 << 10;     // of rows and states ahead, but at most
constexpr int64_t kUpdateL2Rows = 32;            // as many rows
constexpr int64_t kUpdateL1Rows = 4;             // ahead, but at most half of those into L2
constexpr int64_t kL2ResidentDyBytes = 1 << 18;  // of dy: no more, and it stays in L2 by itself

}  // namespace ml::cpu
