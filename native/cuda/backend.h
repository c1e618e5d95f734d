#pragma once
// The CUDA devices of this machine, and the emulated one of test/simt, compiled from
// the same files.

#include <memory>
#include <string>
#include <vector>

#include "device/device.h"

namespace ml {

struct CudaDevice {
  std::string name;         // "cuda", with several "cuda:0" …; "simt"
  std::string description;  // "NVIDIA H100 80GB HBM3, sm_90, 132 multiprocessors"
  std::string reason;       // why it can't be used, else empty
  int64_t memory = 0;       // bytes
};

// The CUDA runtime that is linked in.
struct CudaToolkit {
  std::string version;  // "13.0"
  int driver = 0;       // the first that runs it: 580
};

namespace cuda {
CudaToolkit toolkit();
std::vector<CudaDevice> devices();  // without a usable device one entry, with the reason
std::shared_ptr<Device> open(int index);
}  // namespace cuda

namespace simt {
CudaToolkit toolkit();
std::vector<CudaDevice> devices();
std::shared_ptr<Device> open(int index);
}  // namespace simt

}  // namespace ml
