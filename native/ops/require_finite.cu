// RequireFinite (ops/require_finite.h): a check, and what it lets through.

#include "ops/require_finite.h"

#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// One thread.
__global__ void require_finite_kernel(Guard guard, float* values, float* unit, const float* x,
                                      int n, float scale) {
  if (guard.aborted()) return;
  for (int i = 0; i < n; ++i) values[i] = x[i];
  *unit = scale;
}

}  // namespace

void require_finite(CudaStream& stream, const RequireFinite& a) {
  stream.check_finite(a.what, a.x, a.step);
  launch(require_finite_kernel, dim3(1), dim3(1), 0, stream, a.values.as<float>(),
         a.unit.as<float>(), a.x.as<float>(), static_cast<int>(a.x.size()), a.scale);
}

}  // namespace ml::ML_CUDA_NAMESPACE
