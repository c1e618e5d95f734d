#pragma once
// The tile product by FMA, for float32 operands and for mixed ones, which are widened when they
// leave shared memory. FMA, and not three TF32 products: the sums are then true float32 sums,
// infinities and NaN included (the low half of an infinity would be NaN), and GPUs with few tensor
// cores lose nothing.

#include "cuda/gemm_operand.cuh"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {

// The position of a thread in the block's tile: a warp is 8 by 4 threads.
template <int kColumns>
struct ThreadPosition {
  int x, y;
  __device__ ThreadPosition() {
    constexpr int kWarpsPerRow = kColumns / 64;
    x = warp_of_block() % kWarpsPerRow * 8 + lane() % 8;
    y = warp_of_block() / kWarpsPerRow * 4 + lane() / 8;
  }
};

// One thread has 8 x 8 sums. kAKMajor, kBKMajor: the operand's runs go along the depth, else along
// the rows of A or the columns of B. K-major: the rows (columns) of a thread have a stride of kRows
// / 8 in the tile, and the pitch is one 16-byte unit more than a run, five units. The eight rows
// that a warp reads together are then in different banks, and so are the two runs of four units
// that are copied together, when their distance is four runs. Otherwise the rows (columns) of a
// thread are two packs of four.
template <class A, class B, bool kAKMajor, bool kBKMajor, int kRows, int kColumns>
struct FmaProduct {
  static constexpr int kThreads = kRows * kColumns / 64, kDepth = 16;
  // Copies that are not asynchronous take registers, too: two blocks of this tile would spill.
  static constexpr bool kAlone = !kAsyncCopies && kRows == kLargeTile && kAKMajor && !kBKMajor;
  static constexpr int kThreadsPerMultiprocessor = kAlone ? kThreads : kFmaThreadsPerMultiprocessor;
  static constexpr int kRun = kBKMajor ? 1 : 4;  // neighbouring columns in a thread's sums

  template <class T, bool kKMajor, int kLength>
  struct Tile {
    static constexpr int kRuns = kKMajor ? kLength : kDepth,
                         kRunLength = kKMajor ? kDepth : kLength;
    static constexpr int kPitch = kKMajor ? kDepth + 4 : kLength;
    static_assert(!kKMajor || sizeof(T) == 4);
    alignas(16) T v[kRuns * kPitch];

    using Reader = OperandReader<T, kKMajor, kRuns, kRunLength, kThreads, kKMajor ? 4 : 1>;
    __device__ void fill(Reader& reader) {
      reader.copy([&](int run, int at) { return v + run * kPitch + at; });
    }
    // Element i of the thread's eight, at depths k and k + 1
    __device__ Pack<T, 2> load_depths(int thread, int i, int k) const {
      return load<2>(v + (thread + i * (kLength / 8)) * kPitch + k);
    }
    // Elements 4g … 4g + 3 of the thread's eight, at depth k
    __device__ Pack<T, 4> load_vec4(int thread, int g, int k) const {
      return load<4>(v + k * kPitch + g * (kLength / 2) + thread * 4);
    }
    static __device__ int position(int thread, int i) {
      return kKMajor ? thread + i * (kLength / 8) : i / 4 * (kLength / 2) + thread * 4 + i % 4;
    }
  };
  struct Stage {
    Tile<A, kAKMajor, kRows> a;
    Tile<B, kBKMajor, kColumns> b;
  };

  float sum[8][8];

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
      for (int j = 0; j < 8; ++j) sum[i][j] = 0;
  }

  __device__ void multiply(const Stage& s) {
    const ThreadPosition<kColumns> at;
    // Two depths at a time: more do not fit into 128 registers beside the sums.
#pragma unroll 1
    for (int k = 0; k < kDepth; k += 2) {
      float a[8][2];  // [element][depth]
      if constexpr (kAKMajor) {
#pragma unroll
        for (int i = 0; i < 8; ++i) widen(a[i], s.a.load_depths(at.y, i, k));
      } else {
#pragma unroll
        for (int kk = 0; kk < 2; ++kk)
#pragma unroll
          for (int g = 0; g < 2; ++g) {
            float vec4[4];
            widen(vec4, s.a.load_vec4(at.y, g, k + kk));
#pragma unroll
            for (int e = 0; e < 4; ++e) a[g * 4 + e][kk] = vec4[e];
          }
      }
      if constexpr (kBKMajor) {
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          float b[2];
          widen(b, s.b.load_depths(at.x, j, k));
#pragma unroll
          for (int kk = 0; kk < 2; ++kk)
#pragma unroll
            for (int i = 0; i < 8; ++i) sum[i][j] = fmaf(a[i][kk], b[kk], sum[i][j]);
        }
      } else {
#pragma unroll
        for (int kk = 0; kk < 2; ++kk)
#pragma unroll
          for (int g = 0; g < 2; ++g) {
            float b[4];
            widen(b, s.b.load_vec4(at.x, g, k + kk));
#pragma unroll
            for (int e = 0; e < 4; ++e)
#pragma unroll
              for (int i = 0; i < 8; ++i)
                sum[i][g * 4 + e] = fmaf(a[i][kk], b[e], sum[i][g * 4 + e]);
          }
      }
    }
  }

  // f(row, column, sums) for each run of kRun neighbouring sums of the thread; row and column are
  // in the block's tile.
  template <class F>
  __device__ void for_each_run(F f) const {
    const ThreadPosition<kColumns> at;
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
      for (int j = 0; j < 8; j += kRun)
        f(Tile<A, kAKMajor, kRows>::position(at.y, i),
          Tile<B, kBKMajor, kColumns>::position(at.x, j), &sum[i][j]);
  }
};

}  // namespace ml::ML_CUDA_NAMESPACE
