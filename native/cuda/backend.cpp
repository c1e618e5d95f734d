#include "cuda/backend.h"

#include <chrono>

#include "cuda/check.h"
#include "cuda/driver.h"
#include "cuda/exact_blocks.h"
#include "cuda/on_device.h"
#include "cuda/stream.h"
#include "operations.h"

namespace ml::ML_CUDA_NAMESPACE {

// Hidden, so that a missing operation is a link error in the addon too.
#define ML_DECLARE(Args, name) [[gnu::visibility("hidden")]] void name(CudaStream&, const Args&);
ML_OPERATIONS(ML_DECLARE)
#undef ML_DECLARE

namespace {

#define ML_RUN(Args, name)                                             \
  .name = +[](void* context, const Args& args) {                       \
    ML_CUDA_NAMESPACE::name(*static_cast<CudaStream*>(context), args); \
  },
constexpr Operations kOperations = {ML_OPERATIONS(ML_RUN)};
#undef ML_RUN

#ifdef ML_SIMT
constexpr const char* kKind = "simt";
#else
constexpr const char* kKind = "cuda";
#endif

int driver_version() {
  int version = 0;
  (void)cudaDriverGetVersion(&version);
  return version;
}

int runtime_version() {
  int version = 0;
  (void)cudaRuntimeGetVersion(&version);
  return version;
}

std::string device_name(int index, int count) {
  return count == 1 ? kKind : std::string(kKind) + ":" + std::to_string(index);
}

CudaDevice describe(int index, int count) {
  CudaDevice d;
  d.name = device_name(index, count);
  cudaDeviceProp p{};
  if (const cudaError_t status = cudaGetDeviceProperties(&p, index); status != cudaSuccess) {
    d.reason = error_of(status, "cudaGetDeviceProperties").what();
    return d;
  }
  const int capability = 10 * p.major + p.minor;
  d.description = std::string(p.name) + ", sm_" + std::to_string(capability) + ", " +
                  std::to_string(p.multiProcessorCount) + " multiprocessors";
  d.memory = static_cast<int64_t>(p.totalGlobalMem);
  if (capability < 75)
    d.reason = too_old_reason(d.description, loaded_driver_version(), driver_version());
  return d;
}

MemorySource memory_of(int device, int64_t total) {
  MemorySource source;
  source.allocate = [device](int64_t bytes) -> void* {
    void* data = nullptr;
    const OnDevice current(device);
    const cudaError_t status = cudaMalloc(&data, static_cast<size_t>(bytes));
    if (status == cudaSuccess) return data;
    (void)cudaGetLastError();
    if (status == cudaErrorMemoryAllocation) return nullptr;
    throw error_of(status, "cudaMalloc");
  };
  source.release = [device](void* data, int64_t) {
    int current = device;
    (void)cudaGetDevice(&current);
    if (current != device) (void)cudaSetDevice(device);
    (void)cudaFree(data);
    if (current != device) (void)cudaSetDevice(current);
  };
  source.total = total;
  source.longest_wait = std::chrono::seconds(10);
  source.threads = true;
  source.exact = exact_blocks();
  return source;
}

// What keeps a device from being opened is ERR_DEVICE, also where CUDA says it.
std::unique_ptr<Stream> open_stream(int index, const std::string& name) {
  try {
    return std::make_unique<CudaStream>(index);
  } catch (const Error& error) {
    if (error.code() != Code::cuda) throw;
    throw Error(Code::device, "openDevice: device \"" + name + "\" can't be had: " + error.what());
  }
}

}  // namespace

std::vector<CudaDevice> devices() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    (void)cudaGetLastError();
    return {{kKind, "",
             no_device_reason(status, runtime_version(), driver_version(), loaded_driver()), 0}};
  }
  std::vector<CudaDevice> list;
  for (int i = 0; i < count; ++i) list.push_back(describe(i, count));
  return list;
}

CudaToolkit toolkit() {
  return {version_text(runtime_version()), needed_driver(runtime_version())};
}

std::shared_ptr<Device> open(int index) {
  const std::vector<CudaDevice> all = devices();
  const CudaDevice& found = all.at(static_cast<size_t>(index));
  if (!found.reason.empty())
    throw Error(Code::device,
                "openDevice: device \"" + found.name + "\" can't be had: " + found.reason + ".");
  auto device = std::make_shared<Device>(kOperations, open_stream(index, found.name),
                                         memory_of(index, found.memory));
  device->name = found.name;
  device->kind = kKind;
  device->description = found.description;
  return device;
}

}  // namespace ml::ML_CUDA_NAMESPACE
