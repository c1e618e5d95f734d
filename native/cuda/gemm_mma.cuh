#pragma once
// The tile product by tensor cores, of two 16-bit operands of one dtype, or of two in TF32.

#include <bit>
#include <type_traits>

#include "cuda/gemm_operand.cuh"
#include "cuda/ptx_mma.cuh"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {

template <class T>
inline constexpr bool kByTensorCores =
    std::is_same_v<T, Half> || std::is_same_v<T, BFloat16> || std::is_same_v<T, TensorFloat32>;

// One warp has 64 x 64 sums of a large tile, so that shared memory gives half as many operands a
// product, and 32 x 64 of a smaller one; as fragments of 16 x 8. kAKMajor, kBKMajor: the operand's
// runs go along the depth, else along the rows of A or the columns of B. A run is stored in units
// of 16 bytes, which are permuted so that what a warp loads at once touches every bank once:
//   K-major      runs of 64 bytes; eight of them, one unit each, for ldmatrix: unit u of run r is
//                at u ^ (r / 2 % 4)
//   else 16-bit  eight runs, one unit each, which ldmatrix transposes: at u ^ (r % 8)
//   else TF32    four runs, two units each, which no instruction transposes: at u ^ (r % 4 * 2)
template <class T, int kRows, int kColumns, bool kAKMajor = true, bool kBKMajor = true>
struct MmaProduct {
  static constexpr int kWarpRows = kRows < kLargeTile ? 32 : 64, kFragments = kWarpRows / 16;
  static constexpr int kThreads = kRows / kWarpRows * (kColumns / 64) * kWarp;
  static constexpr bool kTf32 = std::is_same_v<T, TensorFloat32>;
  static constexpr int kUnit = 16 / static_cast<int>(sizeof(T)), kDepth = 4 * kUnit;
  static constexpr int kThreadsPerMultiprocessor = kMmaThreadsPerMultiprocessor<kWarpRows>;
  static constexpr int kRun = 2;

  template <int kLength, bool kKMajor>
  struct Tile {
    static constexpr int kRuns = kKMajor ? kLength : kDepth, kRun = kKMajor ? kDepth : kLength;
    alignas(16) T v[kRuns * kRun];

    __device__ static int offset(int run, int unit) {
      return run * kRun +
             (unit ^ (kKMajor ? run / 2 % 4 : (kTf32 ? run % 4 * 2 : run % 8))) * kUnit;
    }
    using Reader = OperandReader<T, kKMajor, kRuns, kRun, kThreads, 1>;
    __device__ void fill(Reader& reader) {
      reader.copy([&](int run, int at) { return v + offset(run, at / kUnit) + at % kUnit; });
    }
    // Four matrices of 8 rows or columns by kUnit depths, from i and k on: two along the rows and
    // two along the depth, in this order where kRowsFirst.
    template <bool kRowsFirst>
    __device__ void load(uint32_t (&r)[4], int i, int k) const {
      const int l = lane();
      const auto row = [&](int matrix) { return i + (kRowsFirst ? matrix % 2 : matrix / 2) * 8; };
      const auto depth = [&](int matrix) {
        return k + (kRowsFirst ? matrix / 2 : matrix % 2) * kUnit;
      };
      if constexpr (kKMajor) {
        ldmatrix_x4(r, v + offset(row(l / 8) + l % 8, depth(l / 8) / kUnit));
      } else if constexpr (!kTf32) {
        ldmatrix_x4_transposed(r, v + offset(depth(l / 8) + l % 8, row(l / 8) / kUnit));
      } else {
#pragma unroll
        for (int m = 0; m < 4; ++m) {
          const int at = row(m) + l / 4;
          const T* from = v + offset(depth(m) + l % 4, at / kUnit) + at % kUnit;
          r[m] = std::bit_cast<uint32_t>(ML_CUDA_NAMESPACE::load<1>(from).v[0].value);
        }
      }
      if constexpr (kTf32) {
#pragma unroll
        for (int m = 0; m < 4; ++m) r[m] = round_to_tf32(r[m]);
      }
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
#pragma unroll
    for (int k = 0; k < kDepth; k += 2 * kUnit) {
      uint32_t a[kFragments][4];
#pragma unroll
      for (int i = 0; i < kFragments; ++i) s.a.template load<true>(a[i], row0() + i * 16, k);
#pragma unroll
      for (int j = 0; j < 8; j += 2) {
        uint32_t b[4];  // of two fragments of 8 columns
        s.b.template load<false>(b, column0() + j * 8, k);
        const uint32_t first[2] = {b[0], b[1]}, second[2] = {b[2], b[3]};
#pragma unroll
        for (int i = 0; i < kFragments; ++i) {
          add_product(sum[i][j], a[i], first);
          add_product(sum[i][j + 1], a[i], second);
        }
      }
    }
  }

  __device__ static void add_product(float (&d)[4], const uint32_t (&a)[4],
                                     const uint32_t (&b)[2]) {
    if constexpr (kTf32)
      mma_16x8x8(d, a, b, T{});
    else
      mma_16x8x16(d, a, b, T{});
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
