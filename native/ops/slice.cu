// Boxes of a tensor (ops/slice.h).

#include "ops/slice.h"

#include "core/strided.h"
#include "cuda/map.cuh"
#include "cuda/strided_copy.h"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// out = 0
template <class T>
struct ClearRule {
  T* out;
  template <int n>
  __device__ void at(int64_t i) const {
    store<n>(out + i, Pack<T, n>{});
  }
};

template <class T>
void clear(CudaStream& stream, const View& out) {
  map(stream, ClearRule<T>{.out = out.as<T>()}, out.size(), aligned<T>(out));
}

}  // namespace

void slice(CudaStream& stream, const Slice& a) {
  const int width = bytes_of(a.x.dtype);
  strided_copy(stream, a.out.data, a.x.as<char>() + box_offset(a.x.shape, a.begin) * width, width,
               box_copy(a.size, a.size, a.x.shape));
}

void slice_backward(CudaStream& stream, const SliceBackward& a) {
  const int width = bytes_of(a.dy.dtype);
  switch (width) {
    case 4: clear<uint32_t>(stream, a.dx); break;
    case 2: clear<uint16_t>(stream, a.dx); break;
    default: clear<uint8_t>(stream, a.dx);
  }
  strided_copy(stream, a.dx.as<char>() + box_offset(a.shape, a.begin) * width, a.dy.data, width,
               box_copy(a.dy.shape, a.shape, a.dy.shape));
}

}  // namespace ml::ML_CUDA_NAMESPACE
