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

// The product of two operands, each K-major or not: by tensor cores where they take both dtypes.
template <class A, class B, bool kAKMajor, bool kBKMajor, int kRows, int kColumns>
struct TileProduct {
  using type = FmaProduct<A, B, kAKMajor, kBKMajor, kRows, kColumns>;
};
template <class T, bool kAKMajor, bool kBKMajor, int kRows, int kColumns>
  requires kByTensorCores<T>
struct TileProduct<T, T, kAKMajor, kBKMajor, kRows, kColumns> {
  using type = MmaProduct<T, kRows, kColumns, kAKMajor, kBKMajor>;
};

// Of x [rows, depth] and y [columns, depth].
template <class T, int kRows, int kColumns>
using KMajorProduct = TileProduct<T, T, true, true, kRows, kColumns>;

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
  const auto fill = [&](int step, int to) {
    if (step < steps) {
      ring[to].a.fill(reader_a);
      ring[to].b.fill(reader_b);
    }
    copy_async_commit();  // also an empty group: the wait counts groups
  };
  p.clear();
  int stage = 0, filled = 0;
  // the ring is filled in the first kStages - 1 rounds, so that there is one copy of `fill`
#pragma unroll 1
  for (int step = 1 - kStages; step < steps; ++step) {
    if (step >= 0) {
      copy_async_wait<kStages - 2>();
      block_sync();
    }
    // into the stage that all threads had finished at the barrier
    fill(step + kStages - 1, filled);
    filled = filled == kStages - 1 ? 0 : filled + 1;
    if (step < 0) continue;
    p.multiply(ring[stage]);
    stage = stage == kStages - 1 ? 0 : stage + 1;
  }
  copy_async_wait<0>();
  block_sync();
}

}  // namespace ml::ML_CUDA_NAMESPACE
