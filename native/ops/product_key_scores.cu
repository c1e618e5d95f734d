// Half scores (ops/product_key_scores.h): one matrix product for each (head, half), whose rows of
// query and scores have the stride of a whole token.

#include "ops/product_key_scores.h"

#include "cuda/matrix_product.cuh"

namespace ml::ML_CUDA_NAMESPACE {

void product_key_scores(CudaStream& stream, const ProductKeyScores& a) {
  const int64_t T = a.query.dim(0), H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2);
  if (a.scores.size() == 0) return;
  dispatch_float(a.query.dtype, [&](auto t) {
    using Element = decltype(t);
    MatrixProduct<Element, Element> p{.c = a.scores.as<float>(),
                                      .ldc = 2 * H * n,
                                      .a = Operand<Element>::of(a.query.as<Element>(), d),
                                      .b = Operand<Element>::of(a.keys.as<Element>(), d),
                                      .M = T,
                                      .N = n,
                                      .K = d,
                                      .bias = nullptr,
                                      .accumulate = false,
                                      .batches = 2 * H,
                                      .a_batch = d,
                                      .b_batch = n * d,
                                      .c_batch = n};
    p.a.stride = 2 * H * d;
    multiply<true, true>(stream, p);
  });
}

}  // namespace ml::ML_CUDA_NAMESPACE
