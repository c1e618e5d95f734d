#pragma once
// The tile product that linear, product_key_scores and product_key_lookup share: a block multiplies
// kRows rows of A by kColumns columns of B over the inner dimension, the depth K. Operands come
// through a ring of stages in shared memory, filled by cp.async. Sums are in registers, each in
// ascending depth.

#include "cuda/gemm_fma.cuh"
#include "cuda/gemm_mma.cuh"
#include "cuda/rounded_float.cuh"
#include "cuda/tuning.h"

namespace ml::ML_CUDA_NAMESPACE {

// The product of two operands of one dtype, each K-major or not.
template <class T, bool kAKMajor, bool kBKMajor, int kRows, int kColumns>
struct TileProduct {
  using type = MmaProduct<T, kRows, kColumns, kAKMajor, kBKMajor>;
};
template <bool kAKMajor, bool kBKMajor, int kRows, int kColumns>
struct TileProduct<float, kAKMajor, kBKMajor, kRows, kColumns> {
  using type = FmaProduct<float, float, kAKMajor, kBKMajor, kRows, kColumns>;
};
template <bool kAKMajor, bool kBKMajor, int kRows, int kColumns>
struct TileProduct<RoundedFloat, kAKMajor, kBKMajor, kRows, kColumns> {
  using type = FmaProduct<RoundedFloat, RoundedFloat, kAKMajor, kBKMajor, kRows, kColumns>;
};

// Of x [rows, depth] and y [columns, depth].
template <class T, int kRows, int kColumns>
using KMajorProduct = TileProduct<T, true, true, kRows, kColumns>;

// One block: p's sums = rows row0 … of A times columns column0 … of B, over the depths k0 …
// k1, where k0 is a multiple of kDepth. `ring` has kStages stages; all threads may reuse it
// after the return.
template <int kStages = ::ml::ML_CUDA_NAMESPACE::kStages, class Product, class A, class B>
__device__ inline void multiply_tile(Product& p, typename Product::Stage* ring, const Operand<A>& a,
                                     int64_t row0, int64_t rows, const Operand<B>& b,
                                     int64_t column0, int64_t columns, int64_t k0, int64_t k1) {
  const int steps = static_cast<int>((k1 - k0 + Product::kDepth - 1) / Product::kDepth);
  typename decltype(Product::Stage::a)::Reader reader_a(a, row0, rows, k0, k1);
  typename decltype(Product::Stage::b)::Reader reader_b(b, column0, columns, k0, k1);
  const auto fill = [&](int step, int stage) {
    if (step < steps) {
      ring[stage].a.fill(reader_a);
      ring[stage].b.fill(reader_b);
    }
    copy_async_commit();  // also an empty group: the wait counts groups
  };
  p.clear();
  for (int step = 0; step < kStages - 1; ++step) fill(step, step);
  int stage = 0;
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    copy_async_wait<kStages - 2>();
    block_sync();
    // into the stage that all threads had finished at the barrier
    fill(step + kStages - 1, stage == 0 ? kStages - 1 : stage - 1);
    p.multiply(ring[stage]);
    stage = stage == kStages - 1 ? 0 : stage + 1;
  }
  copy_async_wait<0>();
  block_sync();
}

}  // namespace ml::ML_CUDA_NAMESPACE
