// Arithmetic of two operands (ops/arithmetic.h), elementwise.

#include "ops/arithmetic.h"

#include <algorithm>

#include "cuda/axes.cuh"
#include "cuda/map.cuh"

namespace ml::ML_CUDA_NAMESPACE {
namespace {

// A tensor, or one number.
struct Source {
  const float* data;  // nullptr: `value`
  float value;

  Source(const View& v, const Constant& c) : data(v ? v.as<float>() : nullptr), value(c.value) {}
  // The pack at element i; where the tensor is broadcast along it, element i in all of it.
  template <int n>
  __device__ Pack<float, n> pack(int64_t i, bool broadcast) const {
    if (data && !broadcast) return load<n>(data + i);
    const float all = data ? data[i] : value;
    Pack<float, n> p;
#pragma unroll
    for (int j = 0; j < n; ++j) p.v[j] = all;
    return p;
  }
};

struct Formula {
  ArithmeticKind kind;
  float alpha, beta;

  __device__ float of(float x, float y) const {
    switch (kind) {
      case ArithmeticKind::add: return fmaf(beta, y, alpha * x);
      case ArithmeticKind::sub: return x - y;
      case ArithmeticKind::mul: return x * y;
      case ArithmeticKind::div: break;
    }
    return x / y;
  }
  template <int n>
  __device__ Pack<float, n> of(const Pack<float, n>& x, const Pack<float, n>& y) const {
    Pack<float, n> p;
#pragma unroll
    for (int j = 0; j < n; ++j) p.v[j] = of(x.v[j], y.v[j]);
    return p;
  }
};

// Operands of the output's shape, or constants.
struct AlikeRule {
  float* out;
  Source x, y;
  Formula formula;
  template <int n>
  __device__ void at(int64_t i) const {
    store<n>(out + i, formula.of(x.pack<n>(i, false), y.pack<n>(i, false)));
  }
};

// A pack lies along the innermost axis.
struct BroadcastRule {
  float* out;
  Source x, y;
  Formula formula;
  Loops<2> loops;
  template <int n>
  __device__ void at(int64_t i) const {
    int64_t offset[2];
    offsets_of(loops, loops.rank, i, offset);
    const int last = loops.rank - 1;
    store<n>(out + i, formula.of(x.pack<n>(offset[0], loops.stride[0][last] == 0),
                                 y.pack<n>(offset[1], loops.stride[1][last] == 0)));
  }
};

}  // namespace

void arithmetic(CudaStream& stream, const Arithmetic& a) {
  const Loops<2> loops = loops_of(a);
  const Source x(a.x, a.constant_x), y(a.y, a.constant_y);
  const Formula formula{.kind = a.kind, .alpha = a.alpha, .beta = a.beta};
  float* out = a.out.as<float>();
  int n = aligned<float>(a.out);
  if (a.x) n = std::min(n, aligned<float>(a.x));
  if (a.y) n = std::min(n, aligned<float>(a.y));
  const auto alike = [&](const View& v, int tensor) {
    return !v || (loops.rank <= 1 && (loops.rank == 0 || loops.stride[tensor][0] == 1));
  };
  if (alike(a.x, 0) && alike(a.y, 1))
    return map(stream, AlikeRule{.out = out, .x = x, .y = y, .formula = formula}, a.out.size(), n);
  if (loops.size[loops.rank - 1] % 4 != 0) n = 1;
  map(stream, BroadcastRule{.out = out, .x = x, .y = y, .formula = formula, .loops = loops},
      a.out.size(), n);
}

}  // namespace ml::ML_CUDA_NAMESPACE
