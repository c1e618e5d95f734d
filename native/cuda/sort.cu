#include "cuda/sort.cuh"

#ifdef ML_SIMT
#include <algorithm>
#include <functional>
#include <memory>
#else
// CUB includes <iostream>, whose static initialiser would link all locales into the binary, 0.4 MB.
// It needs <ostream> only, so this defines the include guard of libstdc++'s <iostream>.
#define _GLIBCXX_IOSTREAM 1
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#include <ostream>
#endif

namespace ml::ML_CUDA_NAMESPACE {

#ifdef ML_SIMT

namespace {

using Work = std::function<void()>;

// Runs `work` in the order of the stream, and at every replay of a graph that is being recorded.
void on_host(CudaStream& stream, Work work) {
  auto owned = std::make_shared<Work>(std::move(work));
  if (stream.keep_with_graph(owned)) {
    check_cuda(cudaLaunchHostFunc(
                   stream.raw(), [](void* w) { (*static_cast<Work*>(w))(); }, owned.get()),
               "cudaLaunchHostFunc");
    return;
  }
  const auto once = [](void* w) {
    (*static_cast<Work*>(w))();
    delete static_cast<Work*>(w);
  };
  check_cuda(cudaLaunchHostFunc(stream.raw(), once, new Work(*owned)), "cudaLaunchHostFunc");
}

}  // namespace

uint64_t* sort_pairs(CudaStream& stream, uint64_t* pairs, uint64_t*, int64_t n, int begin_bit,
                     int end_bit) {
  const uint64_t mask = (end_bit < 64 ? (uint64_t{1} << end_bit) : 0) - (uint64_t{1} << begin_bit);
  on_host(stream, [=] {
    std::stable_sort(pairs, pairs + n,
                     [=](uint64_t a, uint64_t b) { return (a & mask) < (b & mask); });
  });
  return pairs;
}

void exclusive_sum(CudaStream& stream, int32_t* out, const int32_t* in, int64_t n) {
  on_host(stream, [=] {
    uint32_t sum = 0;
    for (int64_t i = 0; i < n; ++i) {
      const auto value = static_cast<uint32_t>(in[i]);
      out[i] = static_cast<int32_t>(sum);
      sum += value;
    }
    ::simt::wrote(out, static_cast<size_t>(n) * sizeof(int32_t));
  });
}

#else

uint64_t* sort_pairs(CudaStream& stream, uint64_t* pairs, uint64_t* other, int64_t n, int begin_bit,
                     int end_bit) {
  if (n == 0) return pairs;
  cub::DoubleBuffer<uint64_t> buffer(pairs, other);
  size_t bytes = 0;
  const char* call = "cub::DeviceRadixSort::SortKeys";
  check_cuda(
      cub::DeviceRadixSort::SortKeys(nullptr, bytes, buffer, n, begin_bit, end_bit, stream.raw()),
      call);
  char* workspace = stream.scratch<char>(static_cast<int64_t>(bytes));
  check_cuda(
      cub::DeviceRadixSort::SortKeys(workspace, bytes, buffer, n, begin_bit, end_bit, stream.raw()),
      call);
  return buffer.Current();
}

void exclusive_sum(CudaStream& stream, int32_t* out, const int32_t* in, int64_t n) {
  if (n == 0) return;
  size_t bytes = 0;
  const char* call = "cub::DeviceScan::ExclusiveSum";
  check_cuda(cub::DeviceScan::ExclusiveSum(nullptr, bytes, in, out, n, stream.raw()), call);
  char* workspace = stream.scratch<char>(static_cast<int64_t>(bytes));
  check_cuda(cub::DeviceScan::ExclusiveSum(workspace, bytes, in, out, n, stream.raw()), call);
}

#endif

}  // namespace ml::ML_CUDA_NAMESPACE
