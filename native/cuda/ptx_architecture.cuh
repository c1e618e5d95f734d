#pragma once
// Which GPUs a kernel is being compiled for, where a bound depends on it.

#include "cuda/namespace.h"

namespace ml::ML_CUDA_NAMESPACE {

// sm_75: 64 KB of shared memory a multiprocessor, and no asynchronous copies
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
inline constexpr bool kForTuring = true;
#else
inline constexpr bool kForTuring = false;
#endif

}  // namespace ml::ML_CUDA_NAMESPACE
