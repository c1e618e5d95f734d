#pragma once
// Replaces the CUDA toolkit's header where the project's .cu files are compiled as host C++ for the
// emulator. Everything is in namespace simt, so that one binary may contain this and the real
// runtime of the toolkit.

#include "simt/device.h"
#include "simt/launch.h"
#include "simt/math.h"
#include "simt/runtime.h"
#include "simt/types.h"

using namespace simt::toolkit;

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(bytes) alignas(bytes)
#define __launch_bounds__(...)

#define threadIdx (::simt::thread_index())
#define blockIdx (::simt::block_index())
#define blockDim (::simt::block_size())
#define gridDim (::simt::grid_size())
