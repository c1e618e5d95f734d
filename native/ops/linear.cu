#include "ops/linear.h"

#include "cuda/column_sums.cuh"
#include "cuda/matrix_product.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// y = x W^T: the depth is contiguous in both.
template <class T>
struct Forward {
  template <int kTile>
  struct Product : ProductAlong<T, kTile, kTile> {};
};

// dx = dy W: the depth of W goes down its rows. dy is float32, and so W is widened.
template <class T>
struct InputGradient {
  template <int kTile>
  struct Product {
    using type = FmaProduct<float, T, true, false, kTile, kTile>;
  };
};

// dW = dy^T x: the depth goes down the rows of both.
template <class T>
struct WeightGradient {
  template <int kTile>
  struct Product {
    using type = FmaProduct<float, T, false, false, kTile, kTile>;
  };
};

template <class T>
void forward(CudaStream& stream, const Linear& a) {
  const int64_t R = a.x.dim(0), in = a.x.dim(1), out = a.weight.dim(0);
  multiply<Forward<T>::template Product, true, T, T>(
      stream,
      {a.y.as<float>(), out, Operand<T>::of(a.x.as<T>(), in), Operand<T>::of(a.weight.as<T>(), in),
       R, out, in, a.bias ? a.bias.as<float>() : nullptr, false});
}

template <class T>
void backward(CudaStream& stream, const LinearBackward& a) {
  const int64_t R = a.x.dim(0), in = a.x.dim(1), out = a.weight.dim(0);
  const Operand<float> dy = Operand<float>::of(a.dy.as<float>(), out);
  constexpr bool kLarge = sizeof(T) == 4;
  if (a.dx)
    multiply<InputGradient<T>::template Product, kLarge, float, T>(
        stream, {a.dx.as<float>(), in, dy, Operand<T>::of(a.weight.as<T>(), in), R, in, out,
                 nullptr, a.accumulate_dx});
  if (a.dweight)
    multiply<WeightGradient<T>::template Product, kLarge, float, T>(
        stream, {a.dweight.as<float>(), in, dy, Operand<T>::of(a.x.as<T>(), in), out, in, R,
                 nullptr, true});
}

}  // namespace

void linear(CudaStream& stream, const Linear& a) {
  dispatch_float(a.x.dtype, [&](auto t) { forward<decltype(t)>(stream, a); });
}

void linear_backward(CudaStream& stream, const LinearBackward& a) {
  dispatch_float(a.x.dtype, [&](auto t) { backward<decltype(t)>(stream, a); });
  if (a.dbias)
    column_sums(stream, {a.dbias.as<float>(), a.dy.as<float>(), nullptr, nullptr, a.dy.dim(0),
                         a.dy.dim(1)});
}

}  // namespace ml::ML_CUDA_NAMESPACE
