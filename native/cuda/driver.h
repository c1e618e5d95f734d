#pragma once
// What is known of NVIDIA's driver: which one a CUDA runtime needs, and which GPUs and version the
// files of the system show, without loading anything.

#include <cuda_runtime.h>

#include <string>

#include "cuda/namespace.h"

namespace ml::ML_CUDA_NAMESPACE {

// "13.0" of 13000
std::string version_text(int version);

// The first driver that runs the programs of a CUDA runtime: minor versions of one major version
// share it (CUDA release notes, "minor version compatibility").
int needed_driver(int runtime);

// "535.104.05", as the kernel module says; "" where none is loaded. `system`: the root of the file
// system.
std::string loaded_driver_version(const std::string& system = "");
// "NVIDIA GeForce GTX 1080 with driver 535.104.05", or "".
std::string loaded_driver(const std::string& system = "");

// Why a GPU that CUDA lists is not one to open, with the version of the driver if it is known and
// that of its library.
std::string too_old_reason(const std::string& gpu, const std::string& loaded_version, int driver);

// Why there is no device: `status` of cudaGetDeviceCount, the versions of the runtime and of the
// driver's library (0: none), and loaded_driver().
std::string no_device_reason(cudaError_t status, int runtime, int driver,
                             const std::string& loaded);

}  // namespace ml::ML_CUDA_NAMESPACE
