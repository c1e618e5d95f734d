#pragma once
// The places of the touched rows, laid out in the order in which they are summed.

#include <cstdint>

namespace ml::cpu {

struct Place {
  float weight;
  uint32_t bag;  // of all reads' bags
};

struct ReadPlaces {
  const Place* places;
  const int32_t* starts;   // those of touched row r are starts[r] … starts[r + 1]
  const float* const* dy;  // of each bag: its row
  int64_t bags;
  int64_t width;

  bool one_place(int64_t r) const { return starts[r + 1] - starts[r] == 1; }
  const Place& first_place(int64_t r) const { return places[starts[r]]; }
  const Place& last_place(int64_t r) const { return places[starts[r + 1] - 1]; }
  const float* dy_of(const Place& place) const { return dy[place.bag]; }
  int64_t dy_bytes() const { return bags * width * static_cast<int64_t>(sizeof(float)); }
};

}  // namespace ml::cpu
