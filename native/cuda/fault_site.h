#pragma once
// What a check of addresses says when it fails. The device knows a check by its number; the host
// keeps what belongs to it.

#include <cstdint>

#include "core/index_error.h"
#include "cuda/fault.cuh"

namespace ml::ML_CUDA_NAMESPACE {

struct FaultSite {
  enum class Kind : uint8_t { indices, offsets, targets, some_target, finite };
  Kind kind;
  const char* op;  // literals
  const char* argument;
  int64_t limit;  // slots | entries | classes | 1 | step

  bool operator==(const FaultSite&) const = default;
};

inline Error error_of(const FaultSite& site, const FaultRecord& record) {
  const int64_t position = static_cast<int64_t>(record.position);
  if (site.kind == FaultSite::Kind::finite)
    return finite_error(site.argument, site.limit, record.value);
  if (site.kind == FaultSite::Kind::offsets)
    return offset_error(site.op, site.argument, position, record.value, record.before, site.limit);
  if (site.kind == FaultSite::Kind::some_target) return no_target_error(site.op);
  return index_error(site.op, site.argument, position, record.value, site.limit,
                     site.kind == FaultSite::Kind::indices ? kRows : kClasses);
}

}  // namespace ml::ML_CUDA_NAMESPACE
