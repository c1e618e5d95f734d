#include "ops/causal_conv1d.h"

#ifdef ML_ISA
#include "cpu/rows.h"

namespace ml::cpu::ML_ISA {
namespace {

// to[t] = bias + sum over j of weights[j] * from[t - s_j], or of from[t + s_j] in reverse, of
// tokens begin … end. weights [width, C]; bias: [C] or nullptr
void conv_tokens(const ConvOver& a, int64_t begin, int64_t end) {
  const int64_t C = a.channels, T = a.time, sign = a.reversed ? -1 : 1;
  const int64_t step = sign * a.dilation * C;  // from one tap to the next; may be out of memory
  for (int64_t token = begin; token < end; ++token) {
    const int64_t t = token % T, reach = (a.reversed ? T - 1 - t : t) / a.dilation;
    const int64_t first = a.width - 1 > reach ? a.width - 1 - reach : 0,
                  oldest = token - sign * (a.width - 1 - first) * a.dilation;
    float* to = a.to + token * C;
    for_vectors(C, [&](int64_t c, int n) {
      Vec sum = a.bias ? load_n(a.bias + c, n) : Vec{};
      const float *weight = a.weights + first * C + c, *from = a.from + oldest * C + c;
      for (int64_t j = first; j < a.width; ++j, weight += C, from += step)
        sum = fma(load_n(weight, n), load_n(from, n), sum);
      store_n(to + c, sum, n);
    });
  }
}

// sums [width + 1, C]: dweight and dbias of tokens begin … end are added to them.
void conv_gradient_tokens(const CausalConv1dBackward& a, float* sums, int64_t begin, int64_t end) {
  const int64_t T = a.x.dim(1), C = a.x.dim(2), width = a.weight.dim(1);
  for (int64_t token = begin; token < end; ++token) {
    const int64_t reach = token % T / a.dilation;
    const int64_t first = width - 1 > reach ? width - 1 - reach : 0;
    const float* dy = a.dy.as<float>() + token * C;
    for_vectors(C, [&](int64_t c, int n) {
      const Vec d = load_n(dy + c, n);
      for (int64_t j = first; j < width; ++j) {
        const int64_t at = token - (width - 1 - j) * a.dilation;
        float* sum = sums + j * C + c;
        store_n(sum, fma(d, load_n(a.x.as<float>() + at * C + c, n), load_n(sum, n)), n);
      }
      float* sum = sums + width * C + c;
      store_n(sum, load_n(sum, n) + d, n);
    });
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include <algorithm>

#include "cpu/column_sums.h"
#include "cpu/tuning.h"

namespace ml::cpu {
namespace {

struct ConvOver {
  float* to;
  const float *from, *weights, *bias;
  int64_t time, channels, width, dilation;
  bool reversed;
};

}  // namespace
}  // namespace ml::cpu

#define ML_ISA_SOURCE "ops/causal_conv1d.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {
namespace {

void convolve(KernelContext& ctx, const View& to, const View& from, const View& weight,
              const View& bias, int64_t dilation, bool reversed) {
  const int64_t C = weight.dim(0), width = weight.dim(1);
  float* weights = ctx.scratch<float>(width * C);
  for (int64_t c = 0; c < C; ++c)
    for (int64_t j = 0; j < width; ++j) weights[j * C + c] = weight.as<float>()[c * width + j];
  const ConvOver a{.to = to.as<float>(),
                   .from = from.as<float>(),
                   .weights = weights,
                   .bias = bias ? bias.as<float>() : nullptr,
                   .time = from.dim(1),
                   .channels = C,
                   .width = width,
                   .dilation = dilation,
                   .reversed = reversed};
  const auto tokens = ML_DISPATCH(conv_tokens);
  ctx.parallel_for(from.dim(0) * from.dim(1), std::max<int64_t>(1, kRowGrain / (width * C)),
                   [&](int64_t begin, int64_t end, int) { tokens(a, begin, end); });
}

}  // namespace

void causal_conv1d(KernelContext& ctx, const CausalConv1d& a) {
  if (a.x.size() == 0) return;
  convolve(ctx, a.y, a.x, a.weight, a.bias, a.dilation, false);
}

void causal_conv1d_backward(KernelContext& ctx, const CausalConv1dBackward& a) {
  if (a.x.size() == 0) return;
  if (a.dx) convolve(ctx, a.dx, a.dy, a.weight, {}, a.dilation, true);
  if (!a.dweight && !a.dbias) return;
  const auto tokens = ML_DISPATCH(conv_gradient_tokens);
  const int64_t count = a.x.dim(0) * a.x.dim(1), C = a.x.dim(2), width = a.weight.dim(1);
  const ColumnPartials partials(ctx, count, C, width + 1);
  ctx.parallel_for(count, partials.grain, [&](int64_t begin, int64_t end, int) {
    partials.for_rows(begin, end,
                      [&](float* sums, int64_t from, int64_t to) { tokens(a, sums, from, to); });
  });
  for (int64_t j = 0; a.dweight && j < width; ++j)
    partials.add_to(a.dweight.as<float>() + j, j, width);
  if (a.dbias) partials.add_to(a.dbias.as<float>(), width);
}

}  // namespace ml::cpu
#endif
