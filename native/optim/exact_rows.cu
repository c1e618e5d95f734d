// ExactValues and SetExactValues (optim/exact_rows.h), elementwise.

#include "optim/exact_rows.h"

#include <algorithm>

#include "cuda/map.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

template <class T, class Exact>
struct ExactValuesRule {
  float* values;
  const T* table;
  const Exact* exact;
  template <int n>
  __device__ void at(int64_t i) const {
    const Pack<T, n> t = load<n>(table + i);
    const Pack<Exact, n> e = load<n>(exact + i);
    Pack<float, n> v;
#pragma unroll
    for (int j = 0; j < n; ++j) v.v[j] = exact_value(t.v[j], e.v[j]);
    store<n>(values + i, v);
  }
};

template <class T, class Exact>
struct SetExactValuesRule {
  T* table;
  Exact* exact;
  const float* values;
  template <int n>
  __device__ void at(int64_t i) const {
    Pack<T, n> t = load<n>(table + i);
    Pack<Exact, n> e;
    const Pack<float, n> v = load<n>(values + i);
#pragma unroll
    for (int j = 0; j < n; ++j) set_exact(t.v[j], e.v[j], v.v[j]);
    store<n>(table + i, t);
    store<n>(exact + i, e);
  }
};

// n such that n elements of all three can be one access
template <class T, class Exact>
int aligned_all(const View& table, const View& exact, const View& values) {
  return std::min({aligned<T>(table), aligned<Exact>(exact), aligned<float>(values)});
}

}  // namespace

void exact_values(CudaStream& stream, const ExactValues& a) {
  dispatch_exact(a.table.dtype, [&](auto t, auto e) {
    using T = decltype(t);
    using Exact = decltype(e);
    map(stream,
        ExactValuesRule<T, Exact>{
            .values = a.values.as<float>(), .table = a.table.as<T>(), .exact = a.exact.as<Exact>()},
        a.values.size(), aligned_all<T, Exact>(a.table, a.exact, a.values));
  });
}

void set_exact_values(CudaStream& stream, const SetExactValues& a) {
  dispatch_exact(a.table.dtype, [&](auto t, auto e) {
    using T = decltype(t);
    using Exact = decltype(e);
    map(stream,
        SetExactValuesRule<T, Exact>{
            .table = a.table.as<T>(), .exact = a.exact.as<Exact>(), .values = a.values.as<float>()},
        a.values.size(), aligned_all<T, Exact>(a.table, a.exact, a.values));
  });
}

}  // namespace ml::ML_CUDA_NAMESPACE
