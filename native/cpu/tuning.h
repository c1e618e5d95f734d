#pragma once
// The CPU's constants: block sizes, grains and thresholds, each with what chose it. Numbers that
// follow from the arithmetic are where they are used.
//
// Machines: Zen 3 (AVX2) and Zen 4 (AVX-512 with VNNI), two cores each. Where no measurement is
// named, none is on record, and the line says what the number bounds.

#include <cstdint>

namespace ml::cpu {

// ---- Machinery (cpu/)

// gather.h, gather_sum.h, gather_dot.h: random rows of a table

// The prefetch distance: so many bytes of rows ahead, at most so many rows. Zen 4, rows of 256
// bytes to 4 KiB: 16 to 128 rows are all as fast (docs/decisions/0005). The pages of the rows being
// read and of those prefetched fit the first-level TLB together.
constexpr int64_t kBagPrefetchBytes = 32768;
constexpr int64_t kMaxBagPrefetchRows = 16;
constexpr int64_t kMaxBagPrefetchRowsAvx512 = 24;
// The same in rows whose sums stay in registers. On Zen 5 from 16 to 128 rows ahead make no
// difference beyond the noise.
constexpr int64_t kRegisterRowsIntoL1d = 32;
constexpr int64_t kRegisterRowsIntoL2 = 64;
// A block of columns, whose sums stay in L1d while the rows pass: bytes of a row (Zen 3) or columns
// (Zen 4). In smaller blocks, columns of rows that are whole pages apart share few sets of a cache.
constexpr int64_t kSumBlockBytes = 2048;
constexpr int64_t kSumBlockColumnsAvx512 = 1024;

// gemm.h, gemm_few.h: products in float32

// A panel of B and one of A then fit L1d together (AVX2: 16 and 6 floats a step).
constexpr int64_t kMaxBlockK = 320;
// Row tiles of a block of C: it and its rows of A stay in a small L2.
constexpr int64_t kMaxBlockTiles = 4;
// Floats of B that are packed at a time: 8 MiB fit L3. Where K is longer than C is high, as in the
// gradient of a weight, 1 MiB fits L2 while all rows of C pass. Zen 5, one thread, 2,048 terms, 128
// to 1,024 rows and columns, with prefetch_tile and kPackAhead: 1.04 to 1.16 times as fast as with
// 8 MiB; where K is the shorter side, up to 1.05 times slower.
constexpr int64_t kMaxPackedFloats = int64_t{2} << 20;
constexpr int64_t kMaxPackedFloatsLongK = int64_t{256} << 10;
// Steps of K that rows of a transposed A are prefetched ahead while they are packed: 0.99 to
// 1.09 times as fast in the same products.
constexpr int64_t kPackAhead = 8;
// Tasks for each thread: with few, the slowest thread would decide.
constexpr int kGemmTasksPerThread = 4;
// B is not packed for fewer row tiles: packing costs about as much as two of them.
constexpr int64_t kFewRowTiles = 2;
// Outputs of so few columns are dot products: a panel of B would be nearly empty.
constexpr int64_t kFewColumns = 2;
// The prefetch distance of dot products, in bytes of columns of B.
constexpr int64_t kDotPrefetchBytes = 8192;
// gemm_batch.h: a block of C that one thread takes alone. Its B, of kMaxBlockK rows, is packed for
// it in 640 KiB, which costs as much as two of the row tiles.
constexpr int64_t kBatchBlockTiles = 20;
constexpr int64_t kBatchBlockColumns = 512;
constexpr int64_t kBatchGrain = 1 << 18;  // multiply-adds of a task
// Grains of products with few rows or columns: dot products of one row, and column panels.
constexpr int64_t kDotGrain = 64;
constexpr int64_t kUnpackedPanelGrain = 8;

// select.h, screen.h: the k largest of a row

// The largest k of the vector path. Ranking compares every candidate with every other.
constexpr int64_t kMaxVectorK = 64;
// Capacity of the buffer of candidates. Rows with more are sorted, or scored in float32 as a whole.
constexpr int64_t kMaxCandidates = 288;
// Rows this short are their own lane maxima.
constexpr int kMaxLaneMaxima = 256;
// Steps of the bisection for a threshold: they leave one or two maxima between its bounds.
constexpr int kBisections = 8;
// Columns from which int8 screening pays, and those where rows are long. Against float32, one
// thread, 256 tokens, 4 heads, k = 32: 512 columns, rows of 64, 128 and 256: Zen 5 0.93, 0.99 and
// 0.98 times as fast, an Intel core 0.81 below 256 elements; 1,024 columns: 1.03, 1.25 and 1.20.
constexpr int64_t kMinScreenedColumns = 1024;
constexpr int64_t kMinScreenedColumnsLongRows = 512;
constexpr int64_t kLongScreenedRow = 256;

// radix_sort.h: the sort of positions by index

// Buckets that positions are partitioned into: one cache line each is being written, 16 KiB of L1d.
constexpr int kMaxRadixBucketBits = 8;
// Keys of an average bucket: with their copy and the counters they fit L1d.
constexpr int64_t kRadixBucketKeys = 2048;
// Counters of one pass over a bucket, 1 KiB.
constexpr int kMaxRadixDigitBits = 8;
// Keys up to which an insertion sort is cheaper than counters.
constexpr int64_t kInsertionSortKeys = 16;

// index_check.h: indices of one task
constexpr int64_t kIndexCheckGrain = 1 << 16;

// strided_copy.h: rows and columns of a tile, whose lines stay in L1d while it is transposed
constexpr int64_t kTransposeTile = 32;

// widen.h: elements of one task
constexpr int64_t kWidenGrain = 1 << 14;

// ---- Operations (ops/, optim/)
// A grain is the work of one task of KernelContext::parallel_for: enough to be worth a hand-over
// between threads, and little enough that every thread gets some. It changes no result, unless it
// says so.

// Elements: the fewer, the more arithmetic each takes.
constexpr int64_t kCopyGrain = 1 << 18;
constexpr int64_t kFillGrain = 1 << 17;
constexpr int64_t kElementwiseGrain = 1 << 15;  // add, copy between dtypes
constexpr int64_t kDenseUpdateGrain = 1 << 14;
constexpr int64_t kActivationGrain = 1 << 13;    // an exp for each element: activations, SiLU gate
constexpr int64_t kRowGrain = 1 << 13;           // of whole rows: softmax, norm, gate, top-k
constexpr int64_t kCrossEntropyGrain = 1 << 12;  // of whole rows
constexpr int64_t kRandomFillGrain = 1 << 12;    // groups of four elements: random fill, dropout
constexpr int kDropoutCounters = 64;             // computed side by side, in vectors
constexpr int64_t kAngleGrain = 1 << 10;         // rotary angles, a sine and a cosine each

// Partial sums of columns (dgain, dbias), each of kRowGrain elements or more. Their cut does not
// depend on the number of threads, so neither do the bits of the sum.
constexpr int64_t kMaxGainPartials = 64;

// Reductions: columns of one task, whole vectors; and parts of a reduction of few outputs, of
// kRowGrain elements or more. The cut decides the bits of a sum, and depends on the shape alone.
constexpr int64_t kReduceColumns = 64;
constexpr int64_t kMaxReduceParts = 64;

constexpr int64_t kBiasColumns = 64;  // of one task of linear's dbias: whole vectors
constexpr int64_t kPeerGrain = 8;     // tokens

// Attention. Queries and keys of a block: whole register tiles of every instruction set, and its
// keys and values stay in L1d while the queries pass.
constexpr int64_t kAttentionBlock = 96;
// With fewer heads of keys than this for each thread, a head is cut into ranges, of whole blocks.
constexpr int64_t kAttentionTasksPerThread = 4;
constexpr int64_t kAttentionRangeBlocks = 2;  // at least: each range packs the keys it sees
// Queries for which packing the keys costs more than the products.
constexpr int64_t kAttentionFewQueries = 4;

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
