#pragma once
// The gradients of touched rows. Rows that very many places read are cut into chunks of fixed size
// whose partial sums are made by all threads and added in order: the bits are the same for any
// number of threads, and one hot row does not hold up the rest.

#include "cpu/context.h"
#include "cpu/read_places.h"

namespace ml::cpu {

constexpr int64_t kHotPlaces = 256;  // of a chunk; rows with more are hot

// Sums places begin … end into g.
using SumPlaces = void (*)(const ReadPlaces&, int64_t begin, int64_t end, float* g);

class HotRows {
 public:
  // Makes the partial sums of every hot row among R rows.
  HotRows(Context& ctx, const ReadPlaces& places, int64_t R, SumPlaces sum);

  // g = the whole sum of row r
  void gradient(int64_t r, float* g) const;

  // floats for g: whole lines, and one between two threads
  int64_t room() const { return (places_.width + 31) / 16 * 16; }
  const ReadPlaces& places() const { return places_; }

 private:
  struct Hot {
    int64_t row;
    int64_t partial;  // its first
  };
  ReadPlaces places_;
  SumPlaces sum_;
  const float* partials_ = nullptr;
  const Hot* hot_ = nullptr;  // by row
  int64_t hot_count_ = 0;
};

}  // namespace ml::cpu
