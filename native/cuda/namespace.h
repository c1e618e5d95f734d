#pragma once
// The CUDA backend is compiled twice: by nvcc, and as host C++ for the emulator (ML_SIMT). Both may
// be in one binary, so all of it is in ml::ML_CUDA_NAMESPACE: `cuda` under nvcc, `simt` under the
// emulator. <cuda_runtime.h> is the toolkit's or the emulator's.

#include <cuda_runtime.h>

#ifdef ML_SIMT
#define ML_CUDA_NAMESPACE simt
#else
#define ML_CUDA_NAMESPACE cuda
#endif

namespace ml::ML_CUDA_NAMESPACE {

// Where in a kernel a warp or block primitive was called, for the emulator's reports. Empty
// on a GPU.
#ifdef ML_SIMT
using CallSite = ::simt::CallSite;
#else
struct CallSite {
  __host__ __device__ static constexpr CallSite here() { return {}; }
};
#endif

}  // namespace ml::ML_CUDA_NAMESPACE
