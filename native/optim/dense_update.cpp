#include "optim/dense_update.h"

#include "optim/adagrad.h"
#include "optim/adamw.h"
#include "optim/sgd.h"

#ifdef ML_ISA
#include "cpu/rows.h"

namespace ml::cpu::ML_ISA {
namespace {

template <class Rule>
void update_range(const Rule& rule, const DenseParameter& a, int64_t begin, int64_t end) {
  float* x = a.param.as<float>() + begin;
  const float* g = a.grad.as<float>() + begin;
  float* s1 = a.state1 ? a.state1.as<float>() + begin : nullptr;
  float* s2 = a.state2 ? a.state2.as<float>() + begin : nullptr;
  const auto root = [](Vec v) { return sqrt(v); };
  for_vectors(end - begin, [&](int64_t i, int n) {
    Vec value = load_n(x + i, n), first = s1 ? load_n(s1 + i, n) : Vec{},
        second = s2 ? load_n(s2 + i, n) : Vec{};
    rule(value, first, second, load_n(g + i, n), root);
    store_n(x + i, value, n);
    if (s1) store_n(s1 + i, first, n);
    if (s2) store_n(s2 + i, second, n);
  });
}

void dense_range(const DenseUpdate& a, const DenseParameter& p, int64_t begin, int64_t end) {
  const int32_t step = next_step(*a.step.as<int32_t>());
  const Hyper hyper = with_rate(p.hyper, a.rates ? a.rates.as<float>() + p.rate : nullptr);
  switch (a.rule) {
    case Rule::sgd: return update_range(SgdRule(hyper, step), p, begin, end);
    case Rule::adamw: return update_range(AdamWRule(hyper, step), p, begin, end);
    case Rule::adagrad:
    case Rule::rowwise_adagrad: return update_range(AdagradRule(hyper, step), p, begin, end);
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include "cpu/tuning.h"

#define ML_ISA_SOURCE "optim/dense_update.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {

void step_advance(KernelContext&, const StepAdvance& a) {
  int32_t* step = a.step.as<int32_t>();
  *step = next_step(*step);
}

void dense_update(KernelContext& ctx, const DenseUpdate& a) {
  const auto range = ML_DISPATCH(dense_range);
  for (const DenseParameter& p : a.parameters)
    ctx.parallel_for(p.param.size(), kDenseUpdateGrain,
                     [&](int64_t begin, int64_t end, int) { range(a, p, begin, end); });
}

}  // namespace ml::cpu
#endif
