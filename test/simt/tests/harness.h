#pragma once
// The emulator's own tests. Each runs in a process of its own, since a mistake that the emulator
// finds ends the process.

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "cuda/block.cuh"
#include "cuda/launch.cuh"
#include "cuda/ptx_async_copy.cuh"
#include "cuda/ptx_mma.cuh"
#include "cuda/vec.cuh"
#include "simt/control.h"

namespace ml::ML_CUDA_NAMESPACE {

// A stream with nothing around it: enough for launch().
class CudaStream {
 public:
  CudaStream() {
    cudaStreamCreate(&stream);
    cudaMalloc(&checks, sizeof(CheckState));
    cudaMemset(checks, 0, sizeof(CheckState));
  }
  cudaStream_t stream = nullptr;
  CheckState* checks = nullptr;
};

}  // namespace ml::ML_CUDA_NAMESPACE

namespace simt_test {

using namespace ml::ML_CUDA_NAMESPACE;  // the wrappers, as a kernel sees them

// Relaxed, as a kernel might add to a counter by mistake: no kernel of the backend has it.
template <class T>
T atomic_add(T* at, T v, CallSite site = CallSite::here()) {
  return static_cast<T>(::simt::atomic(::simt::Atomic::add, at, sizeof(T), v, false, site));
}

struct Test {
  const char* name;
  void (*run)();
  const char* report = nullptr;  // what the emulator must say; null: the test must pass
};

// Ends the process when `ok` is false.
void expect(bool ok, const char* what);

// A stream, and arrays in device memory.
struct Device {
  CudaStream stream;

  template <class T>
  T* array(size_t count) {
    T* p = nullptr;
    cudaMalloc(&p, count * sizeof(T));
    return p;
  }
  template <class T>
  T* array(const std::vector<T>& values) {
    T* p = array<T>(values.size());
    cudaMemcpy(p, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice);
    return p;
  }
  template <class T>
  std::vector<T> read(const T* p, size_t count) {
    wait();
    std::vector<T> values(count);
    cudaMemcpy(values.data(), p, count * sizeof(T), cudaMemcpyDeviceToHost);
    return values;
  }
  void wait() { expect(cudaStreamSynchronize(stream.stream) == cudaSuccess, "the stream waits"); }
};

const std::vector<Test>& fault_tests();
const std::vector<Test>& count_tests();
const std::vector<Test>& primitive_tests();
const std::vector<Test>& runtime_tests();

}  // namespace simt_test
