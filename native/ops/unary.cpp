#include "ops/unary.h"

#ifdef ML_ISA
#include "cpu/elementary.h"
#include "cpu/rows.h"

namespace ml::cpu::ML_ISA {
namespace {

template <class F>
inline void each(const Unary& a, int64_t begin, int64_t end, F f) {
  const float* x = a.x.as<float>() + begin;
  float* y = a.y.as<float>() + begin;
  for_vectors(end - begin, [&](int64_t i, int n) { store_n(y + i, f(load_n(x + i, n)), n); });
}

void unary_range(const Unary& a, int64_t begin, int64_t end) {
  switch (a.kind) {
    case UnaryKind::exp: return each(a, begin, end, [](Vec x) { return exp(x); });
    case UnaryKind::log: return each(a, begin, end, [](Vec x) { return log(x); });
    case UnaryKind::sqrt: return each(a, begin, end, [](Vec x) { return sqrt(x); });
    case UnaryKind::tanh: return each(a, begin, end, [](Vec x) { return tanh(x); });
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include "cpu/tuning.h"

#define ML_ISA_SOURCE "ops/unary.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {

void unary(KernelContext& ctx, const Unary& a) {
  const auto range = ML_DISPATCH(unary_range);
  ctx.parallel_for(a.x.size(), kActivationGrain,
                   [&](int64_t begin, int64_t end, int) { range(a, begin, end); });
}

}  // namespace ml::cpu
#endif
