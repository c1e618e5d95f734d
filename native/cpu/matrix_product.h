#pragma once
// Matrix products in float32 over the threads of the context, compiled once for each instruction
// set: C[M, N] = A[M, K] B[K, N] (+ bias) (+ C), each matrix by the strides of its rows and
// columns, so that transposes are the same code. An element of C is summed in one order, whatever
// the number of threads.

#include <cstdint>

#include "core/axes.h"
#include "cpu/context.h"

namespace ml::cpu {

struct Matrix {
  const float* data;
  int64_t row_stride, column_stride;  // in elements
  bool rounded = false;               // its elements count as rounded to bfloat16
};

struct Product {
  float* c;
  int64_t ldc;
  Matrix a, b;
  int64_t M, N, K;
  const float* bias;  // [N], or nullptr
  bool accumulate;
};

void multiply(KernelContext& ctx, const Product& p);

// Products of any sizes; each C is another's memory.
void multiply_all(KernelContext& ctx, const Product* products, int64_t count);

// A product like `first` for each index of `kept`, whose elements of C, A and B it moves along, and
// summed over those of `summed`, of A and B.
void multiply_batch(KernelContext& ctx, const Product& first, const Loops<3>& kept,
                    const Loops<2>& summed);

}  // namespace ml::cpu
