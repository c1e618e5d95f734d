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

// dx = dy W: dy is K-major, W is not. dy is float32, and so W is widened.
template <class T>
struct LinearInputGradient {
  template <int kTile>
  struct Product {
    using type = FmaProduct<float, T, true, false, kTile, kTile>;
  };
};

// dW = dy^T x: neither is K-major.
template <class T>
struct LinearWeightGradient {
  template <int kTile>
  struct Product {
    using type = FmaProduct<float, T, false, false, kTile, kTile>;
  };
};

}  // namespace
}  // namespace ml::ML_CUDA_NAMESPACE
