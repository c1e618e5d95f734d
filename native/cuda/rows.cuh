#pragma once
// Operations on the rows of a matrix [rows, n] of float32. A row group has one row: a warp where
// rows are short, a block where they are long. Each thread caches its elements in registers, so a
// row is read once. A row that is longer than the registers of the largest group is taken in
// chunks; what needs all of the row before it can write reads such a row twice.

#include <type_traits>

#include "cuda/block.cuh"
#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"
#include "cuda/vec.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// kSize_ threads, kRegisters_ elements of a row in each: register i of a thread has element
// first + i * kSize of the chunk.
template <int kSize_, int kRegisters_, bool kCachesRow_>
struct RowGroup {
  static constexpr int kSize = kSize_, kRegisters = kRegisters_;
  static constexpr bool kCachesRow = kCachesRow_;    // else it takes the row chunk by chunk
  static constexpr int kChunk = kSize * kRegisters;  // elements
  static constexpr int kBlock = kSize == kWarp ? kThreads : kSize;
  static constexpr int kMinBlocks = kLargestBlock / kBlock;  // of a multiprocessor
  static constexpr size_t kSharedBytes = kSize == kWarp ? 0 : kWarp * sizeof(float);
  static_assert(kRegisters % kRowLoadsInFlight == 0);
  using Registers = float[kRegisters];

  int64_t row, n;
  bool exists;  // false past the last row, where n is 0: threads stay for the reductions
  int first;

  __device__ RowGroup(int64_t rows, int64_t length) {
    row = static_cast<int64_t>(blockIdx.x) * (kBlock / kSize) + threadIdx.x / kSize;
    exists = row < rows;
    n = exists ? length : 0;
    first = static_cast<int>(threadIdx.x) % kSize;
  }
  __device__ bool is_leader() const { return first == 0 && exists; }

  // f(begin) for each chunk of the row, in order
  template <class F>
  __device__ void for_chunks(F f) const {
    if constexpr (kCachesRow) {
      f(int64_t{0});
    } else {
#pragma unroll 1
      for (int64_t begin = 0; begin < n; begin += kChunk) f(begin);
    }
  }

  // x = this thread's elements of the chunk; `absent` in some registers past the end of the row
  __device__ void load(Registers& x, const float* from, int64_t begin, float absent = 0.0f) const {
    const float* own = from + begin + first;
    for_registers(begin, [&](int i, bool inside) {
      const float loaded = load_if<1>(inside, own + i * kSize).v[0];
      x[i] = inside ? loaded : absent;
    });
  }

  // x *= the same elements of `by`
  __device__ void multiply(Registers& x, const float* by, int64_t begin) const {
    const float* own = by + begin + first;
    for_registers(begin,
                  [&](int i, bool inside) { x[i] *= load_if<1>(inside, own + i * kSize).v[0]; });
  }

  // f(register) for each register that load() has set
  template <class F>
  __device__ void for_loaded(int64_t begin, F f) const {
    for_registers(begin, [&](int i, bool) { f(i); });
  }

  // f(register) for each register with an element of the row
  template <class F>
  __device__ void for_inside(int64_t begin, F f) const {
    for_registers(begin, [&](int i, bool inside) {
      if (inside) f(i);
    });
  }

  // Writes f(register, element of the row) to this thread's elements of the chunk.
  template <class F>
  __device__ void store(float* to, int64_t begin, F f) const {
    float* own = to + begin + first;
    for_registers(begin, [&](int i, bool inside) {
      if (inside) own[i * kSize] = f(i, begin + first + i * kSize);
    });
  }

  // Over the threads of the group; every thread gets it.
  __device__ float sum(float v) const {
    if constexpr (kSize == kWarp)
      return warp_sum(v);
    else
      return block_sum(v, &shared<float>());
  }
  __device__ float max(float v) const {
    if constexpr (kSize == kWarp)
      return warp_max(v);
    else
      return block_max(v, &shared<float>());
  }

 private:
  template <class F>
  __device__ void for_registers(int64_t begin, F f) const {
    const int count = n - begin < kChunk ? static_cast<int>(n - begin) : kChunk;
#pragma unroll
    for (int i = 0; i < kRegisters; i += kRowLoadsInFlight) {
      if (i * kSize >= count) break;
#pragma unroll
      for (int j = i; j < i + kRowLoadsInFlight; ++j) f(j, first + j * kSize < count);
    }
  }
};

inline int64_t rows_of(const View& x) { return x.dim(-1) == 0 ? 0 : x.size() / x.dim(-1); }

// kernel_of(std::type_identity<Group>) gives the instance of a kernel for a row group; a thread
// caches kRegisters elements of each row.
template <int kRegisters, class KernelOf, class... Arguments>
void launch_rows(int64_t rows, int64_t n, CudaStream& stream, KernelOf kernel_of,
                 const Arguments&... arguments) {
  const auto with = [&]<class Group>(std::type_identity<Group> group) {
    launch(kernel_of(group), dim3(blocks_for(rows, Group::kBlock / Group::kSize)),
           dim3(Group::kBlock), Group::kSharedBytes, stream, arguments...);
  };
  if (n <= kWarp * kRegisters)
    with(std::type_identity<RowGroup<kWarp, kRegisters, true>>{});
  else if (n <= kThreads * kRegisters)
    with(std::type_identity<RowGroup<kThreads, kRegisters, true>>{});
  else if (n <= kLargestBlock * kRegisters)
    with(std::type_identity<RowGroup<kLargestBlock, kRegisters, true>>{});
  else
    with(std::type_identity<RowGroup<kLargestBlock, kRowLoadsInFlight, false>>{});
}

}  // namespace
}  // namespace ml::ML_CUDA_NAMESPACE
