#include "ops/softmax.h"

#ifdef ML_ISA
#include "cpu/rows.h"

namespace ml::cpu::ML_ISA {
namespace {

void softmax_rows(const Softmax& a, int64_t begin, int64_t end) {
  const int64_t n = a.x.dim(-1);
  for (int64_t r = begin; r < end; ++r) {
    const float* x = a.x.as<float>() + r * n;
    float* y = a.y.as<float>() + r * n;
    const float max_x = max_of(x, n);
    Vec sum{};
    for_vectors(n, [&](int64_t i, int c) {
      const Vec e = exp(load_n(x + i, c) - max_x);
      store_n(y + i, e, c);
      // Lanes past n add 0. exp_sum (cpu/rows.h) adds the last lanes in another order.
      sum += c == kWidth ? e : load_n(y + i, c);
    });
    const Vec total = set1(reduce_add(sum));
    for_vectors(n, [&](int64_t i, int c) { store_n(y + i, load_n(y + i, c) / total, c); });
  }
}

void softmax_backward_rows(const SoftmaxBackward& a, int64_t begin, int64_t end) {
  const int64_t n = a.y.dim(-1);
  for (int64_t r = begin; r < end; ++r) {
    const float *dy = a.dy.as<float>() + r * n, *y = a.y.as<float>() + r * n;
    float* dx = a.dx.as<float>() + r * n;
    const Vec sum = set1(dot(dy, y, n));
    for_vectors(n, [&](int64_t i, int c) {
      store_n(dx + i, load_n(y + i, c) * (load_n(dy + i, c) - sum), c);
    });
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include <algorithm>

#include "cpu/tuning.h"

#define ML_ISA_SOURCE "ops/softmax.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {
namespace {

// rows(begin, end) over all rows of x
template <class F>
void for_rows(KernelContext& ctx, const View& x, F&& rows) {
  const int64_t n = std::max<int64_t>(1, x.dim(-1));
  ctx.parallel_for(x.size() / n, std::max<int64_t>(1, kRowGrain / n),
                   [&](int64_t begin, int64_t end, int) { rows(begin, end); });
}

}  // namespace

void softmax(KernelContext& ctx, const Softmax& a) {
  const auto rows = ML_DISPATCH(softmax_rows);
  for_rows(ctx, a.x, [&](int64_t begin, int64_t end) { rows(a, begin, end); });
}

void softmax_backward(KernelContext& ctx, const SoftmaxBackward& a) {
  const auto rows = ML_DISPATCH(softmax_backward_rows);
  for_rows(ctx, a.y, [&](int64_t begin, int64_t end) { rows(a, begin, end); });
}

}  // namespace ml::cpu
#endif
