// The host's calls on memory: allocations, copies, fills. All pointers are checked against the
// live allocations.

#include <cstring>
#include <memory>
#include <vector>

#include "host_memory.h"
#include "machine.h"
#include "memory.h"
#include "simt/runtime.h"
#include "stream.h"

namespace simt::toolkit {
namespace {

bool capturing(cudaStream_t stream) {
  cudaStreamCaptureStatus status;
  cudaStreamIsCapturing(stream, &status);
  return status != cudaStreamCaptureStatusNone;
}

// Copies the bytes, and with them whether they were ever written.
void copy(void* to, const void* from, size_t bytes) {
  DeviceMemory& memory = device_memory();
  std::memmove(to, from, bytes);
  if (!memory.holds(to)) return;
  if (memory.holds(from))
    std::memmove(memory.state(reinterpret_cast<uintptr_t>(to)),
                 memory.state(reinterpret_cast<uintptr_t>(from)), bytes);
  else
    memory.wrote(to, bytes);
}

// The memory must still be allocated when the copy runs.
void check_allocated(const void* p, size_t bytes) {
  if (device_memory().holds(p) && !device_memory().covers(p, bytes))
    fault_after("copy or fill of %zu bytes out of bounds: %s", bytes, describe_address(p));
}

bool kind_fits(const void* to, const void* from, cudaMemcpyKind kind) {
  const bool to_device = device_memory().holds(to), from_device = device_memory().holds(from);
  switch (kind) {
    case cudaMemcpyHostToHost: return !to_device && !from_device;
    case cudaMemcpyHostToDevice: return to_device && !from_device;
    case cudaMemcpyDeviceToHost: return !to_device && from_device;
    case cudaMemcpyDeviceToDevice: return to_device && from_device;
    default: return true;
  }
}

}  // namespace

cudaError_t simt_malloc(void** pointer, size_t bytes) {
  const RuntimeCall call;
  *pointer = nullptr;
  ++call_counts.allocations;
  if (call.refused() || ml::fails(ml::Failure::cuda_memory))
    return result(cudaErrorMemoryAllocation);
  if (bytes == 0) return cudaSuccess;
  *pointer = device_memory().allocate(bytes);
  return *pointer ? cudaSuccess : result(cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void* pointer) {
  const ml::Uncounted uncounted;
  if (!pointer) return cudaSuccess;
  ++call_counts.frees;
  cudaDeviceSynchronize();
  return device_memory().release(pointer) ? cudaSuccess : result(cudaErrorInvalidValue);
}

cudaError_t simt_malloc_host(void** pointer, size_t bytes) {
  const RuntimeCall call;
  const bool refused = call.refused() || ml::fails(ml::Failure::cuda_memory);
  *pointer = refused ? nullptr : pin(bytes);
  return *pointer ? cudaSuccess : result(cudaErrorMemoryAllocation);
}
cudaError_t cudaFreeHost(void* pointer) {
  return !pointer || unpin(pointer) ? cudaSuccess : result(cudaErrorInvalidValue);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const RuntimeCall call;
  if (call.refused()) return result(cudaErrorLaunchFailure);
  if (bytes == 0) return cudaSuccess;
  if (!kind_fits(to, from, kind)) return result(cudaErrorInvalidValue);
  CUstream_st& s = stream_of(stream);
  const bool late_source = device_memory().holds(from) || is_pinned(from, bytes);
  const bool late_target = device_memory().holds(to) || is_pinned(to, bytes);
  if ((!late_source || !late_target) && capturing(stream))
    return result(cudaErrorStreamCaptureUnsupported);
  if (late_source) {
    s.enqueue([=] {
      check_allocated(to, bytes);
      check_allocated(from, bytes);
      copy(to, from, bytes);
    });
  } else {  // pageable memory is read before the call returns
    const auto* begin = static_cast<const char*>(from);
    auto staged = std::make_shared<std::vector<char>>(begin, begin + bytes);
    s.enqueue([=] {
      check_allocated(to, bytes);
      copy(to, staged->data(), bytes);
    });
  }
  if (!late_target) s.drain();  // pageable memory is written before the call returns
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
  return error == cudaSuccess ? cudaStreamSynchronize(nullptr) : error;
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  const RuntimeCall call;
  if (call.refused()) return result(cudaErrorLaunchFailure);
  if (bytes == 0) return cudaSuccess;
  if (!device_memory().holds(to)) return result(cudaErrorInvalidValue);
  stream_of(stream).enqueue([=] {
    check_allocated(to, bytes);
    std::memset(to, value, bytes);
    device_memory().wrote(to, bytes);
  });
  return cudaSuccess;
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  const cudaError_t error = cudaMemsetAsync(to, value, bytes, nullptr);
  return error == cudaSuccess ? cudaStreamSynchronize(nullptr) : error;
}

}  // namespace simt::toolkit
