#pragma once
// The memory that an exchange overwrites, in as few parts as possible.

#include <vector>

#include "distributed/exchange.h"

namespace ml {

// Bytes of device memory without a gap, made of the pieces that are received.
struct Run {
  View view;  // u8
  int64_t staged = 0;
};

inline View bytes_of(const View& v) {
  View bytes = v;
  bytes.dtype = DType::u8;
  bytes.shape = {v.bytes()};
  return bytes;
}

inline std::vector<Run> runs_of(const std::vector<Piece>& pieces) {
  std::vector<Run> runs;
  int64_t staged = 0;
  for (const Piece& piece : pieces) {
    if (piece.view.bytes() == 0) continue;
    const View bytes = bytes_of(piece.view);
    if (!runs.empty() && runs.back().view.storage == bytes.storage &&
        runs.back().view.as<char>() + runs.back().view.bytes() == bytes.data)
      runs.back().view.shape = {runs.back().view.bytes() + bytes.bytes()};
    else
      runs.push_back({bytes, staged});
    staged += bytes.bytes();
  }
  return runs;
}

}  // namespace ml
