#pragma once
// C[M, N] (+)= A[M, K] B[K, N] (+ bias), for a batch of matrices or for groups of rows. The kernels
// (cuda/product_kernel.cuh) are compiled once for each pair of dtypes and each layout, in
// matrix_product_fma.cu and matrix_product_mma.cu.

#include "cuda/gemm_operand.cuh"

namespace ml::ML_CUDA_NAMESPACE {

class CudaStream;

// Groups of rows: group g has rows offsets[g] … offsets[g + 1]. Only the device knows the offsets.
struct RowGroups {
  enum class Of : uint8_t {
    rows,   // of A and C: C[r] = A[r] B[g] (+ bias[g]) for the rows r of group g
    depth,  // of A and B: C[g] += A[rows of g]^T B[rows of g], neither is K-major
  };
  const int32_t* offsets = nullptr;  // nullptr: there are no groups
  int64_t count = 0;
  Of of = Of::rows;
};

template <class A, class B>
struct MatrixProduct {
  float* c;
  int64_t ldc;
  Operand<A> a;
  Operand<B> b;
  int64_t M, N, K;
  const float* bias;  // [N], or nullptr; with groups of rows [groups, N]
  bool accumulate;    // to c
  int64_t batches = 1;
  int64_t a_batch = 0, b_batch = 0, c_batch = 0;  // elements from one matrix or group to the next
  RowGroups groups = {};
};

// kAKMajor, kBKMajor: the operand is contiguous along K, else along the rows of A or the columns of
// B. Where K is long and C small, K is split, and the products of the splits are added in order.
// The number of splits depends on the shape alone, and so does the result.
template <bool kAKMajor, bool kBKMajor, class A, class B>
void multiply(CudaStream& stream, const MatrixProduct<A, B>& p);

}  // namespace ml::ML_CUDA_NAMESPACE
