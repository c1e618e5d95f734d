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
  const float* const* dy;  // of each bag: its row
  int64_t bags;
  int64_t width;
};

}  // namespace ml::cpu
