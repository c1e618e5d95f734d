#pragma once
// The gradients of touched rows. Rows that very many places read are cut into chunks of fixed size whose partial sums are made by all
// threads and added in order: the bits are the same for any number of threads, and one hot row does not hold up the rest.

#include "cpu/context.h"
#include "cpu/read_places.h"

namespace ml::cpu {

constexpr int64_t kHotPlaces = 256;  // of a chunk; rows with more are hot

// Sums order[begin … end) into g.
using SumPlaces = void (*)(const ReadPlaces&, const int32_t* order, int64_t begin, int64_t end, float* g);

class HotRows {
 public:
  // Makes the partial sums of every hot row among R rows.
  HotRows(Context& ctx, const ReadPlaces& places, const int32_t* starts, const int32_t* order, int64_t R, SumPlaces sum);

  // g = the whole sum of row r
  void gradient(int64_t r, float* g) const;

  // The same as weight * dy: a row with one place, most rows of a large table, is taken where it lies; others are summed into g.
  ReadPlaces::Place gradient_of(int64_t r, float* g) const {
    if (one_place(r)) return places_.at(order_[starts_[r]]);
    gradient(r, g);
    return {1.0f, g};
  }
  bool one_place(int64_t r) const { return starts_[r + 1] - starts_[r] == 1; }
  ReadPlaces::Address first_place(int64_t r) const { return places_.address(order_[starts_[r]]); }

 private:
  const ReadPlaces& places_;
  const int32_t* starts_;
  const int32_t* order_;
  SumPlaces sum_;
  const float* partials_ = nullptr;
  const int32_t* first_ = nullptr;  // of each row: its first partial, or -1
};

}  // namespace ml::cpu
