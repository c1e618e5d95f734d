#include "ops/cross_entropy.h"

#ifdef ML_ISA
#include "cpu/rows.h"

namespace ml::cpu::ML_ISA {
namespace {

struct LogSumExp {
  float max_x, sum;  // logsumexp = max_x + log(sum)
};

inline LogSumExp log_sum_exp(const float* x, int64_t n) {
  const float max_x = max_of(x, n);
  return {.max_x = max_x, .sum = exp_sum(x, n, max_x, nullptr)};
}

void cross_entropy_rows(const CrossEntropy& a, int64_t begin, int64_t end) {
  const int64_t C = a.logits.dim(1);
  for (int64_t t = begin; t < end; ++t) {
    const float* x = a.logits.as<float>() + t * C;
    const int32_t target = a.targets.as<int32_t>()[t];
    float loss = 0;
    if (target >= 0) {
      const LogSumExp z = log_sum_exp(x, C);
      loss = (z.max_x - x[target]) + __builtin_logf(z.sum);
    }
    a.loss.as<float>()[t] = loss;
  }
}

void cross_entropy_backward_rows(const CrossEntropyBackward& a, int64_t begin, int64_t end) {
  const int64_t C = a.logits.dim(1);
  for (int64_t t = begin; t < end; ++t) {
    const float* x = a.logits.as<float>() + t * C;
    float* dx = a.dlogits.as<float>() + t * C;
    const int32_t target = a.targets.as<int32_t>()[t];
    if (target < 0) {
      for (int64_t i = 0; i < C; ++i) dx[i] = 0;
      continue;
    }
    const LogSumExp z = log_sum_exp(x, C);
    const float dloss = a.dloss.as<float>()[t];
    const Vec scale = set1(dloss / z.sum);
    for_vectors(
        C, [&](int64_t i, int n) { store_n(dx + i, exp(load_n(x + i, n) - z.max_x) * scale, n); });
    dx[target] -= dloss;
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include <algorithm>

#include "core/index_error.h"
#include "cpu/tuning.h"

#define ML_ISA_SOURCE "ops/cross_entropy.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {
namespace {

int64_t rows_per_task(int64_t classes) {
  return std::max<int64_t>(1, kCrossEntropyGrain / std::max<int64_t>(1, classes));
}

void validate(const char* op, const View& targets, int64_t classes) {
  const int32_t* t = targets.as<int32_t>();
  for (int64_t i = 0; i < targets.size(); ++i) {
    if (!is_index(t[i], classes)) throw index_error(op, "targets", i, t[i], classes, kClasses);
  }
}

}  // namespace

void cross_entropy(KernelContext& ctx, const CrossEntropy& a) {
  const int64_t C = a.logits.dim(1);
  validate("crossEntropy", a.targets, C);
  const auto rows = ML_DISPATCH(cross_entropy_rows);
  ctx.parallel_for(a.logits.dim(0), rows_per_task(C),
                   [&](int64_t begin, int64_t end, int) { rows(a, begin, end); });
}

void cross_entropy_backward(KernelContext& ctx, const CrossEntropyBackward& a) {
  const int64_t C = a.logits.dim(1);
  validate("crossEntropyBackward", a.targets, C);
  const auto rows = ML_DISPATCH(cross_entropy_backward_rows);
  ctx.parallel_for(a.logits.dim(0), rows_per_task(C),
                   [&](int64_t begin, int64_t end, int) { rows(a, begin, end); });
}

}  // namespace ml::cpu
#endif
