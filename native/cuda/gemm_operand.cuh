#pragma once
// The operands of a tile product: how a block copies tiles of a matrix from global
// to shared memory.

#include "cuda/block.cuh"
#include "cuda/ptx_async_copy.cuh"
#include "cuda/vec.cuh"

namespace ml::ML_CUDA_NAMESPACE {

// A matrix in global memory: runs of contiguous elements, `stride` elements from run to run.
template <class T>
struct Operand {
  const T* data;
  int64_t stride;
  bool vec16;  // every run starts at a multiple of 16 bytes

  static Operand of(const T* data, int64_t stride) {
    return {data, stride, widest<T>(data, stride) * sizeof(T) == 16};
  }
};

// What one thread copies of an operand, tile by tile along the depth. A tile is kRuns runs of kRun
// elements, copied in units of 16 bytes where the operand is vec16, else element by element, with
// the lanes of a warp on neighbouring addresses. Past the ends of the matrix the tile gets zeros.
//   kKMajor    the runs go along the depth, and the next tile is further along the same runs; else
//              each run has one depth, and the next tile is in the runs that follow
//   kRunStep   1 or 4, the distance of the runs of neighbouring threads: what a quarter warp writes
//              at once must be in different banks, and the tile's pitch decides which of the two is
template <class T, bool kKMajor, int kRuns, int kRun, int kThreads, int kRunStep>
struct OperandReader {
  static constexpr int kUnit = 16 / static_cast<int>(sizeof(T));
  static_assert(kRuns * kRun % (kThreads * kUnit) == 0 && kThreads % kRun == 0 && kRuns % 8 == 0);

  const T* source;
  int64_t stride;
  int runs, length;  // inside the matrix, from this thread's first unit on
  bool vec16;

  // i0, n: the tile's first row or column, and their number; k0, k1 the depth
  __device__ OperandReader(const Operand<T>& from, int64_t i0, int64_t n, int64_t k0, int64_t k1)
      : stride(from.stride), vec16(from.vec16) {
    const int64_t run0 = (kKMajor ? i0 : k0) + first_run(),
                  first = (kKMajor ? k0 : i0) + first_element();
    source = from.data + run0 * stride + first;
    runs = clamp_to_int((kKMajor ? n : k1) - run0);
    length = clamp_to_int((kKMajor ? k1 : n) - first);
  }
  static __device__ int clamp_to_int(int64_t left) {
    constexpr int kMax = 1 << 30;
    return left < 0 ? 0 : (left < kMax ? static_cast<int>(left) : kMax);
  }

  // The run of thread i: i itself, or with kRunStep 4 in the order 0 4 1 5 2 6 3 7, 8 12 … It
  // permutes bits of i, so run_of(i + j) = run_of(i) + run_of(j) where i is a multiple of a power
  // of two larger than j.
  static __device__ constexpr int run_of(int i) {
    return kRunStep == 1 ? i : i / 8 * 8 + i % 2 * 4 + i % 8 / 2;
  }
  __device__ int threads_of_run() const { return vec16 ? kRun / kUnit : kRun; }
  __device__ int first_run() const { return run_of(thread_of_block() / threads_of_run()); }
  __device__ int first_element() const {
    return thread_of_block() % threads_of_run() * (vec16 ? kUnit : 1);
  }

  // address(run, element) in shared memory
  template <class F>
  __device__ void copy(F address) {
    const int run = first_run(), element = first_element();
    const T* from = source;
    if (vec16) {
      constexpr int kRunsPerStep = kThreads / (kRun / kUnit);
#pragma unroll
      for (int i = 0; i < kRuns; i += kRunsPerStep) {
        const int skipped = run_of(i);
        const int inside =
            skipped < runs ? (length < 0 ? 0 : (length < kUnit ? length : kUnit)) : 0;
        copy_async16(address(run + skipped, element), from, inside * static_cast<int>(sizeof(T)));
        from += (run_of(i + kRunsPerStep) - skipped) * stride;
      }
    } else {
      constexpr int kRunsPerStep = kThreads / kRun;
#pragma unroll 1  // unrolled, registers spill
      for (int i = 0; i < kRuns; i += kRunsPerStep) {
        const int skipped = run_of(i);
        const bool inside = skipped < runs && length > 0;
        T* target = address(run + skipped, element);
        if constexpr (sizeof(T) == 4) {
          copy_async4(target, from, inside ? 4 : 0);
        } else {
          Pack<T, 1> one{};
          if (inside) one = load<1>(from);
          store<1>(target, one);
        }
        from += (run_of(i + kRunsPerStep) - skipped) * stride;
      }
    }
    if constexpr (kKMajor) {
      source += kRun;
      length -= kRun;
    } else {
      source += kRuns * stride;
      runs -= kRuns;
    }
  }
};

}  // namespace ml::ML_CUDA_NAMESPACE
