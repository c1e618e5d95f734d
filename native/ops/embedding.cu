// Rows of a table by index (ops/embedding.h).

#include "ops/embedding.h"

#include <algorithm>

#include "cuda/map.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

template <class T>
__device__ inline float number(T x) {
  if constexpr (sizeof(T) == 1)
    return static_cast<float>(x);
  else
    return widen(x);
}

// y = scale * table[index], n elements of one row
template <class T>
struct EmbeddingRule {
  float* y;
  const T* table;
  const int32_t* indices;
  const float* scales;  // or nullptr
  int64_t width;
  template <int n>
  __device__ void at(int64_t i) const {
    const int64_t t = i / width;
    const int32_t index = indices[t];
    const bool given = index >= 0;
    const Pack<T, n> row =
        load_if<n, Caching::streaming>(given, table + (given ? index : 0) * width + i % width);
    const float scale = given && scales ? scales[index] : 1.0f;
    Pack<float, n> p;
#pragma unroll
    for (int j = 0; j < n; ++j) p.v[j] = given ? number(row.v[j]) * scale : 0.0f;
    store<n>(y + i, p);
  }
};

template <class T>
void copy_rows(CudaStream& stream, const Embedding& a) {
  const int64_t V = a.table.dim(1);
  const T* table = a.table.as<T>();
  map(stream,
      EmbeddingRule<T>{.y = a.y.as<float>(),
                       .table = table,
                       .indices = a.indices.as<int32_t>(),
                       .scales = a.scales ? a.scales.as<float>() : nullptr,
                       .width = V},
      a.y.size(), std::min(widest(table, V), widest(a.y.as<float>(), V)));
}

}  // namespace

void embedding(CudaStream& stream, const Embedding& a) {
  stream.check_indices("embedding", "indices", a.indices, a.table.dim(0));
  if (a.y.size() == 0) return;
  if (a.table.dtype == DType::i8) return copy_rows<int8_t>(stream, a);
  dispatch_float(a.table.dtype, [&](auto t) { copy_rows<decltype(t)>(stream, a); });
}

}  // namespace ml::ML_CUDA_NAMESPACE
