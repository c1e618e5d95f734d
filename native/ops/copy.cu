// Copy (ops/copy.h), elementwise, with a conversion where the dtypes differ.

#include "ops/copy.h"

#include <algorithm>

#include "cuda/map.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// out = in, converted
template <class To, class From>
struct ConvertRule {
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

// out = in, the bytes
template <class T>
struct CopyRule {
  T* out;
  const T* in;
  template <int n>
  __device__ void at(int64_t i) const {
    store<n>(out + i, load<n>(in + i));
  }
};

template <class T>
void copy_bytes(CudaStream& stream, const Copy& a) {
  map(stream, CopyRule<T>{.out = a.out.as<T>(), .in = a.in.as<T>()}, a.in.size(),
      std::min(aligned<T>(a.out), aligned<T>(a.in)));
}

}  // namespace

void copy(CudaStream& stream, const Copy& a) {
  if (a.in.dtype == a.out.dtype) {
    switch (bytes_of(a.in.dtype)) {
      case 4: return copy_bytes<uint32_t>(stream, a);
      case 2: return copy_bytes<uint16_t>(stream, a);
      default: return copy_bytes<uint8_t>(stream, a);
    }
  }
  dispatch_float(a.in.dtype, [&](auto from) {
    dispatch_float(a.out.dtype, [&](auto to) {
      using From = decltype(from);
      using To = decltype(to);
      if constexpr (!std::is_same_v<From, To>)
        map(stream, ConvertRule<To, From>{.out = a.out.as<To>(), .in = a.in.as<From>()},
            a.in.size(), std::min(aligned<To>(a.out), aligned<From>(a.in)));
    });
  });
}

}  // namespace ml::ML_CUDA_NAMESPACE
