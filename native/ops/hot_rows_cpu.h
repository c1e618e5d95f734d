#pragma once
// The gradients of touched rows. Hot rows, those of more than kHotEntries entries, are cut into
// chunks of that size, whose partial sums are made by all threads and added in order: the bits are
// the same for any number of threads, and one hot row does not delay the rest.

#include "ops/row_entries_cpu.h"

namespace ml::cpu {

// Sums entries begin … end into g [width].
using SumEntries = void (*)(const RowEntries&, int64_t begin, int64_t end, float* g);

class HotRows {
 public:
  // Makes the partial sums of every hot row among R touched rows, in scratch memory of this call.
  HotRows(KernelContext& ctx, const RowEntries& entries, int64_t R, SumEntries sum);

  // g [width] = the gradient of touched row r
  void gradient(int64_t r, float* g) const;

  // Floats from one row's buffer to the next: whole cache lines, and one line between two threads.
  int64_t buffer_stride() const { return (entries_.width + 31) / 16 * 16; }
  const RowEntries& entries() const { return entries_; }

 private:
  struct HotRow {
    int64_t row;
    int64_t first_partial;
  };
  RowEntries entries_;
  SumEntries sum_;
  const float* partials_ = nullptr;  // [chunks, width]
  const HotRow* hot_ = nullptr;      // [hot_count_], ascending rows
  int64_t hot_count_ = 0;
};

}  // namespace ml::cpu
