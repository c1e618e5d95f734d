#pragma once
// The tile product by tensor cores, of two 16-bit operands of one dtype.

#include "cuda/gemm_operand.cuh"
#include "cuda/ptx_mma.cuh"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {

// One warp has 64 x 64 sums of a large tile, so that shared memory gives half as many operands a
// product, and 32 x 64 of a smaller one; as fragments of 16 x 8. kAKMajor, kBKMajor: the operand's
// runs go along the depth, else along the rows of A or the columns of B, and ldmatrix transposes. A
// run is stored in units of 16 bytes, which are permuted so that the eight runs of an ldmatrix
// touch every bank once: of a K-major tile, whose runs are 64 bytes, unit u of run r is at u ^ (r /
// 2 % 4), else at u ^ (r % 8).
template <class T, int kRows, int kColumns, bool kAKMajor = true, bool kBKMajor = true>
struct MmaProduct {
  static constexpr int kWarpRows = kRows < kLargeTile ? 32 : 64, kFragments = kWarpRows / 16;
  static constexpr int kThreads = kRows / kWarpRows * (kColumns / 64) * kWarp, kDepth = 32;
  static constexpr int kThreadsPerMultiprocessor = kMmaThreadsPerMultiprocessor<kWarpRows>;
  static constexpr int kRun = 2;

  template <int kLength, bool kKMajor>
  struct Tile {
    static constexpr int kRuns = kKMajor ? kLength : kDepth, kRun = kKMajor ? kDepth : kLength;
    alignas(16) T v[kRuns * kRun];

    __device__ static int offset(int run, int unit) {
      return run * kRun + (unit ^ (kKMajor ? run / 2 % 4 : run % 8)) * 8;
    }
    using Reader = OperandReader<T, kKMajor, kRuns, kRun, kThreads, 1>;
    __device__ void fill(Reader& reader) {
      reader.copy([&](int run, int at) { return v + offset(run, at / 8) + at % 8; });
    }
    // Four 8x8 matrices of [row or column, depth]; i and k, multiples of 8, are where the matrix
    // begins whose rows this lane gives the address of.
    __device__ void load(uint32_t (&r)[4], int i, int k) const {
      const int row = lane() % 8;
      if constexpr (kKMajor)
        ldmatrix_x4(r, v + offset(i + row, k / 8));
      else
        ldmatrix_x4_transposed(r, v + offset(k + row, i / 8));
    }
  };
  struct Stage {
    Tile<kRows, kAKMajor> a;
    Tile<kColumns, kBKMajor> b;
  };

  float sum[kFragments][8][4];

  __device__ static int row0() { return warp_of_block() / (kColumns / 64) * kWarpRows; }
  __device__ static int column0() { return warp_of_block() % (kColumns / 64) * 64; }

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < kFragments; ++i)
#pragma unroll
      for (int j = 0; j < 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) sum[i][j][e] = 0;
  }

  __device__ void multiply(const Stage& s) {
    const int l = lane();
#pragma unroll
    for (int k = 0; k < kDepth / 16; ++k) {
      uint32_t a[kFragments][4];
#pragma unroll
      for (int i = 0; i < kFragments; ++i)
        s.a.load(a[i], row0() + i * 16 + l / 8 % 2 * 8, k * 16 + l / 16 * 8);
#pragma unroll
      for (int j = 0; j < 8; j += 2) {
        uint32_t b[4];  // of two fragments of 8 columns
        s.b.load(b, column0() + j * 8 + l / 16 * 8, k * 16 + l / 8 % 2 * 8);
        const uint32_t first[2] = {b[0], b[1]}, second[2] = {b[2], b[3]};
#pragma unroll
        for (int i = 0; i < kFragments; ++i) {
          mma_16x8x16(sum[i][j], a[i], first, T{});
          mma_16x8x16(sum[i][j + 1], a[i], second, T{});
        }
      }
    }
  }

  // As FmaProduct::for_each_run.
  template <class F>
  __device__ void for_each_run(F f) const {
    const int row = row0() + lane() / 4, column = column0() + lane() % 4 * 2;
#pragma unroll
    for (int i = 0; i < kFragments; ++i)
#pragma unroll
      for (int j = 0; j < 8; ++j)
#pragma unroll
        for (int half = 0; half < 2; ++half)
          f(row + i * 16 + half * 8, column + j * 8, &sum[i][j][half * 2]);
  }
};

}  // namespace ml::ML_CUDA_NAMESPACE
