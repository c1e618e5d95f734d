#pragma once

#include "cuda/namespace.h"

namespace ml::ML_CUDA_NAMESPACE {

// Whether each allocation has the requested size and is never reused, so that the emulator knows
// the bounds of each.
inline bool exact_blocks() {
#ifdef ML_SIMT
  return !::simt::cached_blocks();
#else
  return false;
#endif
}

}  // namespace ml::ML_CUDA_NAMESPACE
