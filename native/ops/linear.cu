// Linear (ops/linear.h): matrix products over tiles, and a sum of columns for dbias. The depth is
// the dimension that is summed over.

#include "ops/linear.h"

#include "cuda/column_sums.cuh"
#include "cuda/matrix_product.cuh"
#include "ops/bfloat16_operand.cuh"
#include "ops/linear_products.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

template <class T>
void forward(CudaStream& stream, const Linear& a) {
  const int64_t R = a.x.dim(0), in = a.x.dim(1), out = a.weight.dim(0);
  multiply<LinearForward<T>::template Product, true, T, T>(
      stream, {.c = a.y.as<float>(),
               .ldc = out,
               .a = Operand<T>::of(a.x.as<T>(), in),
               .b = Operand<T>::of(a.weight.as<T>(), in),
               .M = R,
               .N = out,
               .K = in,
               .bias = a.bias ? a.bias.as<float>() : nullptr,
               .accumulate = false});
}

template <class D, class T>
void backward(CudaStream& stream, const LinearBackward& a) {
  const int64_t R = a.x.dim(0), in = a.x.dim(1), out = a.weight.dim(0);
  const Operand<D> dy = Operand<D>::of(a.dy.as<D>(), out);
  constexpr bool kWithLarge = sizeof(T) == sizeof(D);
  if (a.dx)
    multiply<LinearInputGradient<D, T>::template Product, kWithLarge, D, T>(
        stream, {.c = a.dx.as<float>(),
                 .ldc = in,
                 .a = dy,
                 .b = Operand<T>::of(a.weight.as<T>(), in),
                 .M = R,
                 .N = in,
                 .K = out,
                 .bias = nullptr,
                 .accumulate = a.accumulate_dx});
  if (a.dweight)
    multiply<LinearWeightGradient<D, T>::template Product, kWithLarge, D, T>(
        stream, {.c = a.dweight.as<float>(),
                 .ldc = in,
                 .a = dy,
                 .b = Operand<T>::of(a.x.as<T>(), in),
                 .M = out,
                 .N = in,
                 .K = R,
                 .bias = nullptr,
                 .accumulate = true});
}

}  // namespace

void linear(CudaStream& stream, const Linear& args) {
  Linear a = args;
  if (a.compute == Compute::bfloat16) {
    round_operands(stream, {&a.x, &a.weight});
  }
  dispatch_float(a.x.dtype, [&](auto t) { forward<decltype(t)>(stream, a); });
}

void linear_backward(CudaStream& stream, const LinearBackward& a) {
  if (a.compute == Compute::bfloat16) {
    LinearBackward rounded = a;
    round_operands(stream, {a.dx || a.dweight ? &rounded.dy : nullptr,
                            a.dx ? &rounded.weight : nullptr, a.dweight ? &rounded.x : nullptr});
    backward<BFloat16, BFloat16>(stream, rounded);
  } else {
    dispatch_float(a.x.dtype, [&](auto t) { backward<float, decltype(t)>(stream, a); });
  }
  if (a.dbias)
    column_sums(stream, {.to = a.dbias.as<float>(),
                         .dy = a.dy.as<float>(),
                         .x = nullptr,
                         .factors = nullptr,
                         .rows = a.dy.dim(0),
                         .columns = a.dy.dim(1)});
}

}  // namespace ml::ML_CUDA_NAMESPACE
