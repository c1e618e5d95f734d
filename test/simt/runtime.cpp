// Devices, launches and their limits, error texts.

#include "simt/runtime.h"

#include <cstdio>
#include <map>
#include <mutex>

#include "machine.h"
#include "memory.h"
#include "simt/control.h"
#include "stream.h"

namespace simt {
namespace {

constexpr size_t kSharedByDefault = 48 * 1024;
constexpr size_t kSharedReserved = 1024;  // of a block, by the system
constexpr size_t kArgumentBytes = 4096;

// Shared memory of a multiprocessor in KiB, by compute capability (CUDA programming guide,
// technical specifications).
size_t shared_of_multiprocessor(int compute) {
  switch (compute) {
    case 75: return 64 * 1024;
    case 80:
    case 87: return 164 * 1024;
    case 86:
    case 89:
    case 120: return 100 * 1024;
    default: return 228 * 1024;
  }
}
size_t shared_of_block(int compute) {
  return compute == 75 ? 64 * 1024 : shared_of_multiprocessor(compute) - kSharedReserved;
}
int threads_of_multiprocessor(int compute) {
  return compute == 75 ? 1024 : compute == 86 || compute == 89 || compute == 120 ? 1536 : 2048;
}

std::mutex mutex;
std::map<const void*, size_t>& shared_limits() {
  static auto& limits = *new std::map<const void*, size_t>;
  return limits;
}

}  // namespace

toolkit::cudaError_t set_kernel_attribute(const void* kernel, toolkit::cudaFuncAttribute attribute,
                                          int value) {
  const RuntimeCall runtime_call;
  if (runtime_call.refused()) return result(toolkit::cudaErrorLaunchFailure);
  if (attribute != toolkit::cudaFuncAttributeMaxDynamicSharedMemorySize)
    return toolkit::cudaSuccess;
  if (value < 0 || static_cast<size_t>(value) > shared_of_block(settings().compute))
    return result(toolkit::cudaErrorInvalidValue);
  const std::lock_guard hold(mutex);
  shared_limits()[kernel] = static_cast<size_t>(value);
  return toolkit::cudaSuccess;
}

toolkit::cudaError_t launch(const toolkit::cudaLaunchConfig_t& config, Call call) {
  const RuntimeCall runtime_call;
  if (runtime_call.refused()) return result(toolkit::cudaErrorLaunchFailure);
  ++call_counts.launches;
  const auto& g = config.gridDim;
  const auto& b = config.blockDim;
  if (g.x == 0 || g.y == 0 || g.z == 0 || g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535)
    return result(toolkit::cudaErrorInvalidConfiguration);
  if (b.x == 0 || b.y == 0 || b.z == 0 || b.x > kMaxThreads || b.y > kMaxThreads || b.z > 64 ||
      uint64_t{b.x} * b.y * b.z > kMaxThreads)
    return result(toolkit::cudaErrorInvalidConfiguration);
  if (call.argument_bytes > kArgumentBytes) return result(toolkit::cudaErrorInvalidValue);
  size_t limit = kSharedByDefault;
  {
    const std::lock_guard hold(mutex);
    const auto found = shared_limits().find(call.kernel);
    if (found != shared_limits().end()) limit = std::max(limit, found->second);
  }
  if (config.dynamicSmemBytes > limit) return result(toolkit::cudaErrorInvalidValue);
  toolkit::CUstream_st& stream = stream_of(config.stream);
  if (!on_current_device(stream)) return result(toolkit::cudaErrorInvalidResourceHandle);
  stream.enqueue([config, call = std::move(call)] { run_grid(call, config); });
  return toolkit::cudaSuccess;
}

Calls calls() {
  const CallCounts& c = call_counts;
  return {.launches = c.launches,
          .allocations = c.allocations,
          .frees = c.frees,
          .timed_events = c.timed_events,
          .event_queries = c.event_queries,
          .event_waits = c.event_waits};
}

namespace {
thread_local int current = 0;  // device
bool exists(int device) { return device >= 0 && device < settings().devices; }
}  // namespace

int current_device() { return current; }

namespace toolkit {

cudaError_t cudaGetDeviceCount(int* count) {
  const RuntimeCall call;
  if (call.refused()) return result(cudaErrorLaunchFailure);
  *count = settings().devices;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  const RuntimeCall call;
  if (call.refused()) return result(cudaErrorLaunchFailure);
  *device = current;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  const RuntimeCall call;
  if (call.refused()) return result(cudaErrorLaunchFailure);
  if (!exists(device)) return result(cudaErrorInvalidDevice);
  current = device;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  const RuntimeCall call;
  if (call.refused()) return result(cudaErrorLaunchFailure);
  if (!exists(device)) return result(cudaErrorInvalidDevice);
  const Settings s = settings();
  *p = {};
  std::snprintf(p->name, sizeof(p->name), "Emulated GPU (sm_%d)", s.compute);
  p->totalGlobalMem = s.memory;
  p->sharedMemPerBlock = kSharedByDefault;
  p->sharedMemPerBlockOptin = shared_of_block(s.compute);
  p->sharedMemPerMultiprocessor = shared_of_multiprocessor(s.compute);
  p->reservedSharedMemPerBlock = s.compute == 75 ? 0 : kSharedReserved;
  p->major = s.compute / 10;
  p->minor = s.compute % 10;
  p->multiProcessorCount = s.multiprocessors;
  p->maxThreadsPerBlock = kMaxThreads;
  p->maxThreadsPerMultiProcessor = threads_of_multiprocessor(s.compute);
  p->warpSize = kWarp;
  p->l2CacheSize = 1 << 20;  // so little that small tests exceed it
  p->memoryBusWidth = 4096;
  p->memoryPoolsSupported = 1;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp p;
  const cudaError_t error = cudaGetDeviceProperties(&p, device);
  if (error != cudaSuccess) return error;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = static_cast<int>(p.sharedMemPerBlock); break;
    case cudaDevAttrWarpSize: *value = p.warpSize; break;
    case cudaDevAttrClockRate: *value = 1000000; break;
    case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
    case cudaDevAttrMemoryClockRate: *value = 1000000; break;
    case cudaDevAttrGlobalMemoryBusWidth: *value = p.memoryBusWidth; break;
    case cudaDevAttrL2CacheSize: *value = p.l2CacheSize; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = p.maxThreadsPerMultiProcessor; break;
    case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = p.minor; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(p.sharedMemPerMultiprocessor);
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(p.sharedMemPerBlockOptin);
      break;
    case cudaDevAttrReservedSharedMemoryPerBlock:
      *value = static_cast<int>(p.reservedSharedMemPerBlock);
      break;
    case cudaDevAttrMemoryPoolsSupported: *value = p.memoryPoolsSupported; break;
    default: return result(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }

namespace {
struct ErrorText {
  cudaError_t error;
  const char *name, *text;
};
constexpr ErrorText kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorOperatingSystem, "cudaErrorOperatingSystem", "OS call failed"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
};
}  // namespace

const char* cudaGetErrorName(cudaError_t error) {
  for (const ErrorText& e : kErrors)
    if (e.error == error) return e.name;
  return "unrecognized error code";
}
const char* cudaGetErrorString(cudaError_t error) {
  for (const ErrorText& e : kErrors)
    if (e.error == error) return e.text;
  return "unrecognized error code";
}

}  // namespace toolkit
}  // namespace simt
