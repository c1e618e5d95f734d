#pragma once
// Checks of the indices and offsets of bags, before a kernel uses them.

#include "core/check.h"
#include "cpu/context.h"

namespace ml::cpu {

// Whether each of n indices is -1 or in [0, slots).
bool indices_in_range(const int32_t* indices, int64_t n, int64_t slots);

// Every index must be -1 or in [0, slots); throws ERR_INDEX_RANGE with the first that is not.
void validate_indices(KernelContext& ctx, const char* op, const char* argument, const View& indices,
                      int64_t slots);

// offsets [B + 1]: 0, ascending, up to `entries`; throws ERR_VALUE with the first that is not.
void validate_offsets(const char* op, const View& offsets, int64_t entries);

}  // namespace ml::cpu
