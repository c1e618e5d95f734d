#include "ops/product_key_scores.h"

#include "cuda/matrix_product.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

template <class T>
struct Along {
  template <int kTile>
  struct Product : ProductAlong<T, kTile, kTile> {};
};

}  // namespace

// One product for each (head, half): rows of query and scores are a whole token apart.
void product_key_scores(CudaStream& stream, const ProductKeyScores& a) {
  const int64_t T = a.query.dim(0), H = a.query.dim(1), d = a.query.dim(3), n = a.keys.dim(2);
  dispatch_float(a.query.dtype, [&](auto t) {
    using Element = decltype(t);
    MatrixProduct<Element, Element> p{a.scores.as<float>(),
                                      2 * H * n,
                                      Operand<Element>::of(a.query.as<Element>(), d),
                                      Operand<Element>::of(a.keys.as<Element>(), d),
                                      T,
                                      n,
                                      d,
                                      nullptr,
                                      false};
    p.a.stride = 2 * H * d;
    p.batches = 2 * H;
    p.a_batch = d;
    p.b_batch = n * d;
    p.c_batch = n;
    multiply<Along<Element>::template Product, false>(stream, p);
  });
}

}  // namespace ml::ML_CUDA_NAMESPACE
