// JournalRows (ops/journal_rows.h): a warp for each row. Rows come into the journal in any order,
// each once.

#include "ops/journal_rows.h"

#include "cuda/block.cuh"
#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"
#include "cuda/warp.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

struct Journal {
  uint8_t* marks;
  int32_t* rows;
  uint32_t* count;
};

// Rows of `width` words, and what the journal keeps of them.
template <class Word>
struct KeptRows {
  Word* bits;
  const Word* table;
  int64_t width;

  // the lanes of a warp together
  __device__ void keep(int64_t at, int64_t row) const {
    for (int64_t c = lane(); c < width; c += kWarp) bits[at * width + c] = table[row * width + c];
  }
};

template <class Word>
KeptRows<Word> kept_rows(const View& bits, const View& table) {
  if (!table) return {};
  return {bits.as<Word>(), table.as<Word>(), row_bytes(table) / static_cast<int64_t>(sizeof(Word))};
}

template <class Word>
__global__ void __launch_bounds__(kThreads)
    journal_rows_kernel(Guard guard, Journal journal, KeptRows<Word> table, KeptRows<Word> exact,
                        const int32_t* rows, const int32_t* row_count, int64_t most) {
  if (guard.aborted()) return;
  constexpr int kWarps = kThreads / kWarp;
  const int64_t R = row_count ? *row_count : most;
  for (int64_t r = int64_t{blockIdx.x} * kWarps + warp_of_block(); r < R;
       r += int64_t{gridDim.x} * kWarps) {
    const int32_t row = rows[r];
    int32_t at = -1;
    if (lane() == 0 && journal.marks[row] == 0) {
      journal.marks[row] = 1;
      at = static_cast<int32_t>(atomic_add(journal.count, 1u));
      journal.rows[at] = row;
    }
    at = shuffle(at, 0);
    if (at < 0) continue;
    table.keep(at, row);
    exact.keep(at, row);
  }
}

template <class Word>
void journal_with(CudaStream& stream, const JournalRows& a) {
  const int64_t most = a.rows.size();
  launch(journal_rows_kernel<Word>,
         dim3(striding_blocks(most, kThreads / kWarp, stream.limits().multiprocessors)),
         dim3(kThreads), 0, stream,
         Journal{.marks = a.marks.as<uint8_t>(),
                 .rows = a.journal_rows.as<int32_t>(),
                 .count = a.journal_count.as<uint32_t>()},
         kept_rows<Word>(a.journal_bits, a.table), kept_rows<Word>(a.journal_exact, a.exact),
         a.rows.as<int32_t>(), a.row_count ? a.row_count.as<int32_t>() : nullptr, most);
}

bool whole_words(const View& table) {
  return !table || (row_bytes(table) % 4 == 0 && reinterpret_cast<uintptr_t>(table.data) % 4 == 0);
}

}  // namespace

void journal_rows(CudaStream& stream, const JournalRows& a) {
  if (whole_words(a.table) && whole_words(a.exact)) return journal_with<uint32_t>(stream, a);
  journal_with<uint16_t>(stream, a);
}

}  // namespace ml::ML_CUDA_NAMESPACE
