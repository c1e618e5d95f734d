#include <algorithm>

#include "cuda/activation.cuh"
#include "cuda/launch.cuh"
#include "cuda/stream.h"
#include "cuda/tuning.h"
#include "cuda/vec.cuh"
#include "ops/elementwise.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// What one thread does to n elements from i on: rules below, each with `template <int n> at(i)`.
// A block strides over packs of n; the last elements, fewer than n, are done one by one.
template <int n, class Rule>
__global__ void map_kernel(Guard guard, Rule rule, int64_t size) {
  if (guard.closed()) return;
  const int64_t step = int64_t{gridDim.x} * blockDim.x,
                first = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int64_t packs = size / n;
  for (int64_t p = first; p < packs; p += step) rule.template at<n>(p * n);
  for (int64_t i = packs * n + first; i < size; i += step) rule.template at<1>(i);
}

constexpr int kPacksPerThread = 2;

// `aligned`: elements that one access may take, as all tensors of the rule are aligned.
template <class Rule>
void map(CudaStream& stream, const Rule& rule, int64_t size, int aligned) {
  const auto start = [&](auto kernel, int n) {
    const unsigned grid = striding_blocks(size, int64_t{kThreads} * kPacksPerThread * n,
                                          stream.limits().multiprocessors);
    launch(kernel, grid, kThreads, 0, stream, rule, size);
  };
  if (aligned >= 4) return start(map_kernel<4, Rule>, 4);
  start(map_kernel<1, Rule>, 1);
}

// n such that n elements at this address can be one access
template <class T>
int aligned(const View& v) {
  return widest<T>(reinterpret_cast<uintptr_t>(v.data), int64_t{16});
}

template <class T>
struct FillRule {
  T* out;
  T value;
  template <int n>
  __device__ void at(int64_t i) const {
    Pack<T, n> p;
#pragma unroll
    for (int j = 0; j < n; ++j) p.v[j] = value;
    store<n>(out + i, p);
  }
};

template <class T>
void fill_typed(CudaStream& stream, const View& out, T value) {
  map(stream, FillRule<T>{out.as<T>(), value}, out.size(), aligned<T>(out));
}

template <class To, class From>
struct CopyRule {
  To* out;
  const From* in;
  template <int n>
  __device__ void at(int64_t i) const {
    const Pack<From, n> from = load<n>(in + i);
    Pack<To, n> to;
#pragma unroll
    for (int j = 0; j < n; ++j) to.v[j] = narrow<To>(widen(from.v[j]));
    store<n>(out + i, to);
  }
};

template <class T>
struct MoveRule {
  T* out;
  const T* in;
  template <int n>
  __device__ void at(int64_t i) const {
    store<n>(out + i, load<n>(in + i));
  }
};

template <class T>
void move(CudaStream& stream, const Copy& a) {
  map(stream, MoveRule<T>{a.out.as<T>(), a.in.as<T>()}, a.in.size(),
      std::min(aligned<T>(a.out), aligned<T>(a.in)));
}

struct CombineRule {
  float* out;
  const float *x, *y;
  float a, b;
  template <int n>
  __device__ void at(int64_t i) const {
    const Pack<float, n> px = load<n>(x + i), py = load<n>(y + i);
    Pack<float, n> p;
#pragma unroll
    for (int j = 0; j < n; ++j) p.v[j] = fmaf(b, py.v[j], a * px.v[j]);
    store<n>(out + i, p);
  }
};

struct ActivateRule {
  float* y;
  const float* x;
  Activation kind;
  template <int n>
  __device__ void at(int64_t i) const {
    Pack<float, n> p = load<n>(x + i);
#pragma unroll
    for (int j = 0; j < n; ++j) p.v[j] = activate(kind, p.v[j]);
    store<n>(y + i, p);
  }
};

struct ActivateBackwardRule {
  float* dx;
  const float *dy, *x;
  Activation kind;
  bool accumulate;
  template <int n>
  __device__ void at(int64_t i) const {
    const Pack<float, n> px = load<n>(x + i), pdy = load<n>(dy + i);
    Pack<float, n> p{};
    if (accumulate) p = load<n>(dx + i);
#pragma unroll
    for (int j = 0; j < n; ++j) p.v[j] += pdy.v[j] * activate_derivative(kind, px.v[j]);
    store<n>(dx + i, p);
  }
};

}  // namespace

void fill(CudaStream& stream, const Fill& a) {
  const float value = static_cast<float>(a.value);
  switch (a.out.dtype) {
    case DType::f32: return fill_typed(stream, a.out, value);
    case DType::f16: return fill_typed(stream, a.out, to_half(value).bits);
    case DType::bf16: return fill_typed(stream, a.out, to_bfloat16(value).bits);
    case DType::i32: return fill_typed(stream, a.out, static_cast<int32_t>(a.value));
    case DType::i8: return fill_typed(stream, a.out, static_cast<int8_t>(a.value));
    case DType::u8: return fill_typed(stream, a.out, static_cast<uint8_t>(a.value));
  }
}

void copy(CudaStream& stream, const Copy& a) {
  if (a.in.dtype == a.out.dtype) {
    switch (bytes_of(a.in.dtype)) {
      case 4: return move<uint32_t>(stream, a);
      case 2: return move<uint16_t>(stream, a);
      default: return move<uint8_t>(stream, a);
    }
  }
  dispatch_float(a.in.dtype, [&](auto from) {
    dispatch_float(a.out.dtype, [&](auto to) {
      using From = decltype(from);
      using To = decltype(to);
      if constexpr (!std::is_same_v<From, To>)
        map(stream, CopyRule<To, From>{a.out.as<To>(), a.in.as<From>()}, a.in.size(),
            std::min(aligned<To>(a.out), aligned<From>(a.in)));
    });
  });
}

void combine(CudaStream& stream, const Combine& a) {
  const int n = std::min({aligned<float>(a.out), aligned<float>(a.x), aligned<float>(a.y)});
  map(stream, CombineRule{a.out.as<float>(), a.x.as<float>(), a.y.as<float>(), a.a, a.b},
      a.out.size(), n);
}

void activate(CudaStream& stream, const Activate& a) {
  map(stream, ActivateRule{a.y.as<float>(), a.x.as<float>(), a.kind}, a.x.size(),
      std::min(aligned<float>(a.y), aligned<float>(a.x)));
}

void activate_backward(CudaStream& stream, const ActivateBackward& a) {
  const int n = std::min({aligned<float>(a.dx), aligned<float>(a.dy), aligned<float>(a.x)});
  map(stream,
      ActivateBackwardRule{a.dx.as<float>(), a.dy.as<float>(), a.x.as<float>(), a.kind,
                           a.accumulate},
      a.x.size(), n);
}

}  // namespace ml::ML_CUDA_NAMESPACE
