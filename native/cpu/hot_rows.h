#pragma once
// The gradients of touched rows. Rows that very many places read are cut into chunks of fixed size whose partial sums are made by all
// threads and added in order: the bits are the same for any number of threads, and one hot row does not hold up the rest.

#include "cpu/context.h"
#include "cpu/read_places.h"

namespace ml::cpu {

constexpr int64_t kHotPlaces = 256;  // of a chunk; rows with more are hot

// Sums places begin … end into g.
using SumPlaces = void (*)(const ReadPlaces&, int64_t begin, int64_t end, float* g);

class HotRows {
 public:
  // Makes the partial sums of every hot row among R rows.
  HotRows(Context& ctx, const ReadPlaces& places, const int32_t* starts, int64_t R, SumPlaces sum);

  // g = the whole sum of row r
  void gradient(int64_t r, float* g) const;

  int64_t room() const { return (reads_.places.width + 31) / 16 * 16; }  // floats for g: whole lines, and one between two threads

  // Where the places of each row lie.
  struct Reads {
    ReadPlaces places;
    const int32_t* starts;
    bool one_place(int64_t r) const { return starts[r + 1] - starts[r] == 1; }
    const Place& first_place(int64_t r) const { return places.places[starts[r]]; }
    const Place& last_place(int64_t r) const { return places.places[starts[r + 1] - 1]; }
    const float* dy_of(const Place& place) const { return places.dy[place.bag]; }
    int64_t dy_bytes() const { return places.bags * places.width * static_cast<int64_t>(sizeof(float)); }
  };
  const Reads& reads() const { return reads_; }

 private:
  struct Hot {
    int64_t row;
    int64_t partial;  // its first
  };
  Reads reads_;
  SumPlaces sum_;
  const float* partials_ = nullptr;
  const Hot* hot_ = nullptr;  // by row
  int64_t hot_count_ = 0;
};

}  // namespace ml::cpu
