#include "ops/copy.h"

#include <algorithm>

#include "cuda/map.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

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

}  // namespace

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

}  // namespace ml::ML_CUDA_NAMESPACE
