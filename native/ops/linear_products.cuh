#pragma once
// The tile products of a linear map and of its gradients, by the size of the tile.

#include "cuda/gemm.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// y = x W^T: both are K-major (contiguous along the depth).
template <class T>
struct LinearForward {
  template <int kTile>
  struct Product : KMajorProduct<T, kTile, kTile> {};
};

// The products of dy with W or x: a float32 dy is multiplied by FMA, and the other operand is
// widened; where both are rounded, by tensor cores.
template <class D, class T, bool kAKMajor, int kTile>
struct GradientProduct {
  using type = FmaProduct<D, T, kAKMajor, false, kTile, kTile>;
};
template <bool kAKMajor, int kTile>
struct GradientProduct<BFloat16, BFloat16, kAKMajor, kTile> {
  using type = MmaProduct<BFloat16, kTile, kTile, kAKMajor, false>;
};
template <bool kAKMajor, int kTile>
struct GradientProduct<TensorFloat32, TensorFloat32, kAKMajor, kTile> {
  using type = MmaProduct<TensorFloat32, kTile, kTile, kAKMajor, false>;
};

// dx = dy W: dy is K-major, W is not.
template <class D, class T>
struct LinearInputGradient {
  template <int kTile>
  struct Product : GradientProduct<D, T, true, kTile> {};
};

// dW = dy^T x: neither is K-major.
template <class D, class T>
struct LinearWeightGradient {
  template <int kTile>
  struct Product : GradientProduct<D, T, false, kTile> {};
};

}  // namespace
}  // namespace ml::ML_CUDA_NAMESPACE
