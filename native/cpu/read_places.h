#pragma once
// The reads of a table laid end to end: what a position means.

#include <cstdint>

namespace ml::cpu {

// One read, and where its positions begin.
struct ReadSpan {
  int64_t begin, end;
  const float* weights;
  const float* dy;
  int64_t first_bag;    // of all reads' bags
  const int32_t* bags;  // of each place, for ragged reads
  uint32_t bag_size;
};

struct ReadPlaces {
  const ReadSpan* spans;
  int count;
  int64_t width;

  // Where a place's weight and its bag's row of dy lie, and which bag of all reads' that is.
  struct Address {
    const float* weight;
    const float* dy;
    int64_t bag;
  };
  Address address(int64_t position) const {
    int s = 0;
    while (position >= spans[s].end) ++s;
    const ReadSpan& span = spans[s];
    const uint32_t local = static_cast<uint32_t>(position - span.begin);
    const int64_t bag = span.bags ? span.bags[local] : local / span.bag_size;
    return {span.weights + local, span.dy + bag * width, span.first_bag + bag};
  }

  struct Place {
    float weight;
    const float* dy;
  };
  Place at(int64_t position) const {
    const Address place = address(position);
    return {*place.weight, place.dy};
  }
};

}  // namespace ml::cpu
