// Linear (ops/linear.h): matrix products over tiles, or of few rows, and a sum of columns for
// dbias. The depth is the dimension that is summed over.

#include "ops/linear.h"

#include "cuda/column_sums.cuh"
#include "cuda/few_rows_product.cuh"
#include "cuda/matrix_product.cuh"
#include "ops/compute_operand.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

template <class T>
void forward(CudaStream& stream, const Linear& a) {
  const int64_t R = a.x.dim(0), in = a.x.dim(1), out = a.weight.dim(0);
  multiply<true, true, T, T>(stream, {.c = a.y.as<float>(),
                                      .ldc = out,
                                      .a = Operand<T>::of(a.x.as<T>(), in),
                                      .b = Operand<T>::of(a.weight.as<T>(), in),
                                      .M = R,
                                      .N = out,
                                      .K = in,
                                      .bias = a.bias ? a.bias.as<float>() : nullptr,
                                      .accumulate = false});
}

template <class A, class B>
void few_rows(CudaStream& stream, const Linear& a) {
  multiply_few_rows<A, B>(stream, {.y = a.y.as<float>(),
                                   .x = a.x.as<A>(),
                                   .weight = a.weight.as<B>(),
                                   .bias = a.bias ? a.bias.as<float>() : nullptr,
                                   .rows = a.x.dim(0),
                                   .in = a.x.dim(1),
                                   .out = a.weight.dim(0)});
}

// In bfloat16: operands of float32 are rounded as they are loaded, others first where they need it.
void few_rounded_rows(CudaStream& stream, Linear a) {
  if (a.x.dtype != DType::f32) {
    compute_operands(stream, a.compute, {&a.x, &a.weight});
    return few_rows<BFloat16, BFloat16>(stream, a);
  }
  if (a.weight.dtype == DType::f32) return few_rows<RoundedFloat, RoundedFloat>(stream, a);
  compute_operands(stream, a.compute, {&a.weight});
  few_rows<RoundedFloat, BFloat16>(stream, a);
}

template <class D, class T>
void backward(CudaStream& stream, const LinearBackward& a) {
  const int64_t R = a.x.dim(0), in = a.x.dim(1), out = a.weight.dim(0);
  const Operand<D> dy = Operand<D>::of(a.dy.as<D>(), out);
  if (a.dx)
    multiply<true, false, D, T>(stream, {.c = a.dx.as<float>(),
                                         .ldc = in,
                                         .a = dy,
                                         .b = Operand<T>::of(a.weight.as<T>(), in),
                                         .M = R,
                                         .N = in,
                                         .K = out,
                                         .bias = nullptr,
                                         .accumulate = a.accumulate_dx});
  if (a.dweight)
    multiply<false, false, D, T>(stream, {.c = a.dweight.as<float>(),
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
  const bool few = a.x.dim(0) <= kFewRows;
  if (few && a.compute == Compute::bfloat16) return few_rounded_rows(stream, a);
  compute_operands(stream, a.compute, {&a.x, &a.weight});
  dispatch_operand(a.compute, a.x.dtype, [&](auto t) {
    using T = decltype(t);
    few ? few_rows<T, T>(stream, a) : forward<T>(stream, a);
  });
}

void linear_backward(CudaStream& stream, const LinearBackward& a) {
  if (a.compute == Compute::float32) {
    dispatch_float(a.x.dtype, [&](auto t) { backward<float, decltype(t)>(stream, a); });
  } else {
    LinearBackward rounded = a;
    compute_operands(stream, a.compute,
                     {a.dx || a.dweight ? &rounded.dy : nullptr, a.dx ? &rounded.weight : nullptr,
                      a.dweight ? &rounded.x : nullptr});
    a.compute == Compute::tf32 ? backward<TensorFloat32, TensorFloat32>(stream, rounded)
                               : backward<BFloat16, BFloat16>(stream, rounded);
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
