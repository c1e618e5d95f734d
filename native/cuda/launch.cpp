#include "cuda/launch.cuh"

#include <string>

#include "cuda/check.h"
#include "cuda/stream.h"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {

LaunchTarget launch_target(CudaStream& stream) { return {stream.raw(), stream.guard()}; }

void fail_too_many_blocks(int64_t blocks) {
  throw Error(Code::shape, "a kernel would need " + std::to_string(blocks) +
                               " blocks, and a GPU runs at most 2^31 - 1 of them.\n  Pass the rows "
                               "in several calls.");
}

void launch_failed(CudaStream&, cudaError_t error, dim3 grid, dim3 block, size_t shared_bytes) {
  (void)cudaGetLastError();
  const auto text = [](dim3 d) {
    return std::to_string(d.x) + " x " + std::to_string(d.y) + " x " + std::to_string(d.z);
  };
  throw error_of(error, ("cudaLaunchKernelEx (grid " + text(grid) + ", block " + text(block) +
                         ", " + std::to_string(shared_bytes) + " shared bytes)")
                            .c_str());
}

}  // namespace ml::ML_CUDA_NAMESPACE
