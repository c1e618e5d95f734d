#pragma once
// What a check of addresses says when it fails. The device knows a check by its number; the host
// keeps what belongs to it.

#include <cstdint>
#include <string>

#include "core/error.h"
#include "cuda/fault.cuh"

namespace ml::ML_CUDA_NAMESPACE {

struct FaultSite {
  enum class Kind : uint8_t { indices, offsets, targets };
  Kind kind;
  const char* op;  // literals
  const char* argument;
  int64_t limit;  // slots | places | classes

  bool operator==(const FaultSite&) const = default;
};

inline Error error_of(const FaultSite& site, const FaultRecord& record) {
  const std::string at =
      std::string(site.op) + ": \"" + site.argument + "\"[" + std::to_string(record.position) + "]";
  const std::string value = std::to_string(record.value), limit = std::to_string(site.limit);
  if (site.kind != FaultSite::Kind::offsets)
    return Error(
        Code::index_range,
        at + " is " + value + ", outside [0, " + limit + ").\n  -1 marks " +
            (site.kind == FaultSite::Kind::indices ? "an empty place." : "a token to ignore."));
  // The first offset must be 0, each other at least the one before, and the last all places.
  const bool falls = record.position > 0 && record.value < record.before;
  const std::string wanted = record.position == 0 ? "0"
                             : falls              ? "at least " + std::to_string(record.before)
                                                  : limit;
  return Error(Code::value, at + " must be " + wanted + ", got " + value +
                                ".\n  offsets[0] is 0, then where each bag ends, up to " + limit +
                                ".");
}

}  // namespace ml::ML_CUDA_NAMESPACE
