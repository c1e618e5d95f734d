#pragma once
// A check of indices or offsets, and the error when it fails. The device has only the number of a
// check; the host keeps its FaultSite.

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
  int64_t limit;  // slots | entries | classes

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
            (site.kind == FaultSite::Kind::indices ? "a padding entry." : "a token to ignore."));
  // The first offset must be 0, each other at least the one before, and the last all entries.
  const bool descends = record.position > 0 && record.value < record.before;
  const std::string wanted = record.position == 0 ? "0"
                             : descends           ? "at least " + std::to_string(record.before)
                                                  : limit;
  return Error(Code::value, at + " must be " + wanted + ", got " + value +
                                ".\n  offsets[0] is 0, then where each bag ends, up to " + limit +
                                ".");
}

}  // namespace ml::ML_CUDA_NAMESPACE
