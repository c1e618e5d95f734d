#pragma once
// The gradients of touched rows. Rows that very many entries read are cut into chunks of fixed size
// whose partial sums are made by all threads and added in order: the bits are the same for any
// number of threads, and one hot row does not hold up the rest.

#include "core/limits.h"
#include "cpu/context.h"
#include "cpu/read_places.h"

namespace ml::cpu {

// Sums entries begin … end into g.
using SumEntries = void (*)(const RowEntries&, int64_t begin, int64_t end, float* g);

class HotRows {
 public:
  // Makes the partial sums of every hot row among R rows.
  HotRows(Context& ctx, const RowEntries& entries, int64_t R, SumEntries sum);

  // g = the whole sum of row r
  void gradient(int64_t r, float* g) const;

  // floats for g: whole lines, and one between two threads
  int64_t room() const { return (entries_.width + 31) / 16 * 16; }
  const RowEntries& entries() const { return entries_; }

 private:
  struct Hot {
    int64_t row;
    int64_t partial;  // its first
  };
  RowEntries entries_;
  SumEntries sum_;
  const float* partials_ = nullptr;
  const Hot* hot_ = nullptr;  // by row
  int64_t hot_count_ = 0;
};

}  // namespace ml::cpu
