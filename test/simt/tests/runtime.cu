// Streams, events, memory, graphs and launch limits.

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "harness.h"

namespace simt_test {
namespace {

__global__ void add_kernel(Guard guard, int* x, int v, int n) {
  if (guard.aborted()) return;
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) x[i] += v;
}

__global__ void scale_kernel(Guard guard, int* x, int v) {
  if (guard.aborted()) return;
  x[threadIdx.x] *= v;
}

void order_of_a_stream() {
  Device d;
  auto* x = d.array<int>(100);
  cudaMemsetAsync(x, 0, 400, d.stream.stream);
  for (int i = 0; i < 5; i++) {
    launch(add_kernel, dim3(2), dim3(64), 0, d.stream, x, i, 100);
    launch(scale_kernel, 1, 100, 0, d.stream, x, 2);
  }
  for (const int v : d.read(x, 100))
    expect(v == 2 * (4 + 2 * (3 + 2 * (2 + 2 * 1))), "kernels run in order");
}

void events() {
  Device d;
  CudaStream other;
  cudaEvent_t event, first;
  cudaEventCreate(&first);
  cudaEventCreate(&event);
  static std::atomic<int> step{0};
  cudaEventRecord(first, d.stream.stream);
  cudaLaunchHostFunc(
      d.stream.stream,
      [](void*) {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        step = 1;
      },
      nullptr);
  cudaEventRecord(event, d.stream.stream);
  cudaStreamWaitEvent(other.stream, event);
  static int seen = -1;
  cudaLaunchHostFunc(other.stream, [](void*) { seen = step; }, nullptr);
  expect(cudaEventQuery(event) == cudaErrorNotReady, "the event has not been reached");
  cudaStreamSynchronize(other.stream);
  expect(seen == 1, "the other stream waited");
  expect(cudaEventQuery(event) == cudaSuccess, "the event has been reached");
  float milliseconds = 0;
  expect(cudaEventElapsedTime(&milliseconds, first, event) == cudaSuccess && milliseconds > 40,
         "time between events");
}

void copies() {
  Device d;
  auto* x = d.array<int>(4);
  int* pinned = nullptr;
  cudaMallocHost(&pinned, 16);
  int pageable[4] = {1, 2, 3, 4};
  static std::atomic<bool> open{false};
  cudaLaunchHostFunc(
      d.stream.stream,
      [](void*) {
        while (!open) std::this_thread::yield();
      },
      nullptr);
  cudaMemcpyAsync(x, pageable, 16, cudaMemcpyHostToDevice, d.stream.stream);
  std::memset(pageable, 0, 16);  // was read already
  cudaMemcpyAsync(pinned, x, 16, cudaMemcpyDeviceToHost, d.stream.stream);
  expect(cudaStreamQuery(d.stream.stream) == cudaErrorNotReady, "the copy has not run");
  open = true;
  d.wait();
  for (int i = 0; i < 4; i++) expect(pinned[i] == i + 1, "pageable memory was read at the call");
  expect(cudaMemcpy(x, pageable, 16, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue,
         "the direction of a copy is checked");
  expect(cudaGetLastError() == cudaErrorInvalidValue && cudaGetLastError() == cudaSuccess,
         "the last error is reported once");
}

void graphs() {
  Device d;
  auto* x = d.array<int>(8);
  cudaMemset(x, 0, 32);
  int* seen = nullptr;
  cudaMallocHost(&seen, 32);
  expect(cudaStreamBeginCapture(d.stream.stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess,
         "capture begins");
  launch(add_kernel, 1, 32, 0, d.stream, x, 3, 8);
  launch(scale_kernel, 1, 8, 0, d.stream, x, 2);
  cudaMemcpyAsync(seen, x, 32, cudaMemcpyDeviceToHost, d.stream.stream);
  cudaGraph_t graph;
  expect(cudaStreamEndCapture(d.stream.stream, &graph) == cudaSuccess, "capture ends");
  expect(d.read(x, 8)[7] == 0, "nothing ran during the capture");
  cudaGraphExec_t executable;
  cudaGraphInstantiate(&executable, graph);
  cudaGraphDestroy(graph);
  for (int i = 0; i < 3; i++) cudaGraphLaunch(executable, d.stream.stream);
  d.wait();
  for (int i = 0; i < 8; i++)
    expect(seen[i] == 2 * (3 + 2 * (3 + 2 * 3)), "the graph ran three times");
  cudaGraphExecDestroy(executable);

  cudaStreamBeginCapture(d.stream.stream, cudaStreamCaptureModeThreadLocal);
  expect(cudaStreamSynchronize(d.stream.stream) == cudaErrorStreamCaptureUnsupported,
         "no waiting in a capture");
  expect(cudaStreamEndCapture(d.stream.stream, &graph) == cudaErrorStreamCaptureInvalidated,
         "waiting spoils the capture");
}

void limits() {
  Device d;
  auto* x = d.array<int>(1);
  const auto launched = [&](dim3 grid, dim3 block, size_t shared) {
    const cudaLaunchConfig_t config{grid, block, shared, d.stream.stream, nullptr, 0};
    return cudaLaunchKernelEx(&config, add_kernel, Guard{d.stream.checks, 0}, x, 0, 0);
  };
  expect(launched(1, 1024, 0) == cudaSuccess, "1024 threads");
  expect(launched(1, 1025, 0) == cudaErrorInvalidConfiguration, "1025 threads");
  expect(launched(1, dim3(32, 33), 0) == cudaErrorInvalidConfiguration, "32 x 33 threads");
  expect(launched(1, dim3(1, 1, 65), 0) == cudaErrorInvalidConfiguration, "65 threads along z");
  expect(launched(dim3(1, 65536), 1, 0) == cudaErrorInvalidConfiguration, "65536 blocks along y");
  expect(launched(1, 0, 0) == cudaErrorInvalidConfiguration, "no thread");
  expect(launched(1, 32, 49152) == cudaSuccess, "48 KiB of shared memory");
  expect(launched(1, 32, 49153) == cudaErrorInvalidValue, "more than 48 KiB without asking");
  expect(cudaFuncSetAttribute(add_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              227 * 1024) == cudaSuccess,
         "227 KiB on sm_90");
  expect(launched(1, 32, 227 * 1024) == cudaSuccess, "227 KiB after asking");
  expect(cudaFuncSetAttribute(add_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              227 * 1024 + 1) == cudaErrorInvalidValue,
         "more than 227 KiB");
  simt::Settings s = simt::settings();
  s.compute = 75;
  simt::set(s);
  expect(cudaFuncSetAttribute(add_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 65 * 1024) ==
             cudaErrorInvalidValue,
         "65 KiB on sm_75");
  d.wait();
}

void out_of_memory() {
  simt::Settings s = simt::settings();
  s.memory = 1 << 20;
  simt::set(s);
  char *a = nullptr, *b = nullptr;
  expect(cudaMalloc(&a, 700000) == cudaSuccess, "it fits");
  expect(cudaMalloc(&b, 700000) == cudaErrorMemoryAllocation && b == nullptr, "it does not fit");
  expect(cudaFree(a) == cudaSuccess && cudaMalloc(&b, 700000) == cudaSuccess, "it fits again");
  expect(cudaFree(a) == cudaErrorInvalidValue, "freed twice");
}

void many_allocations() {
  std::vector<char*> all;
  for (int round = 0; round < 20; round++) {
    for (size_t i = 1; i < 50; i++) {
      char* p = nullptr;
      expect(cudaMalloc(&p, i * 7919) == cudaSuccess, "allocation");
      expect(reinterpret_cast<uintptr_t>(p) % 256 == 0, "aligned to 256 bytes");
      cudaMemset(p, 1, i * 7919);
      all.push_back(p);
    }
    for (size_t i = 0; i < all.size(); i += 2) expect(cudaFree(all[i]) == cudaSuccess, "free");
    std::vector<char*> rest;
    for (size_t i = 1; i < all.size(); i += 2) rest.push_back(all[i]);
    all = rest;
  }
}

}  // namespace

const std::vector<Test>& runtime_tests() {
  static const std::vector<Test> tests = {
      {"order of a stream", order_of_a_stream},
      {"events", events},
      {"copies", copies},
      {"graphs", graphs},
      {"launch limits", limits},
      {"out of memory", out_of_memory},
      {"many allocations", many_allocations},
  };
  return tests;
}

}  // namespace simt_test
