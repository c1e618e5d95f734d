#pragma once
// The CUDA runtime has a current device for each thread. The thread that calls this package may
// have another one, which it keeps.

#include <cuda_runtime.h>

#include "cuda/check.h"

namespace ml::ML_CUDA_NAMESPACE {

// While it lives, `device` is the thread's current one.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    check_cuda(cudaGetDevice(&caller_), "cudaGetDevice");
    changed_ = caller_ != device;
    if (changed_) check_cuda(cudaSetDevice(device), "cudaSetDevice");
  }
  ~OnDevice() {
    if (changed_) (void)cudaSetDevice(caller_);
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int caller_ = 0;
  bool changed_ = false;
};

}  // namespace ml::ML_CUDA_NAMESPACE
