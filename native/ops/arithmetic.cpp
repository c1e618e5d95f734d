#include "ops/arithmetic.h"

#ifdef ML_ISA
#include "cpu/pieces.h"
#include "cpu/rows.h"

namespace ml::cpu::ML_ISA {
namespace {

// An operand at a piece of the output: contiguous, or one number for all of it.
struct Operand {
  const float* at;
  bool contiguous;
};

template <class F>
inline void combine_piece(float* out, Operand x, Operand y, int64_t count, F f) {
  if (x.contiguous && y.contiguous) {
    for_vectors(count, [&](int64_t i, int n) {
      store_n(out + i, f(load_n(x.at + i, n), load_n(y.at + i, n)), n);
    });
  } else if (x.contiguous) {
    const Vec all = set1(*y.at);
    for_vectors(count, [&](int64_t i, int n) { store_n(out + i, f(load_n(x.at + i, n), all), n); });
  } else {
    const Vec all = set1(*x.at);
    for_vectors(count, [&](int64_t i, int n) {
      store_n(out + i, f(all, y.contiguous ? load_n(y.at + i, n) : set1(*y.at)), n);
    });
  }
}

template <class F>
inline void combine(const Arithmetic& a, const Loops<2>& loops, int64_t begin, int64_t end, F f) {
  const float* x = a.x ? a.x.as<float>() : &a.constant_x.value;
  const float* y = a.y ? a.y.as<float>() : &a.constant_y.value;
  float* out = a.out.as<float>();
  const int last = loops.rank - 1;
  const bool along_x = last >= 0 && loops.stride[0][last] != 0,
             along_y = last >= 0 && loops.stride[1][last] != 0;
  for_pieces(loops, begin, end, [&](int64_t i, int64_t count, const int64_t(&offset)[2]) {
    combine_piece(out + i, {x + offset[0], along_x}, {y + offset[1], along_y}, count, f);
  });
}

void arithmetic_range(const Arithmetic& a, const Loops<2>& loops, int64_t begin, int64_t end) {
  switch (a.kind) {
    case ArithmeticKind::add:
      return combine(a, loops, begin, end,
                     [&](Vec x, Vec y) { return fma(set1(a.beta), y, a.alpha * x); });
    case ArithmeticKind::sub:
      return combine(a, loops, begin, end, [](Vec x, Vec y) { return x - y; });
    case ArithmeticKind::mul:
      return combine(a, loops, begin, end, [](Vec x, Vec y) { return x * y; });
    case ArithmeticKind::div:
      return combine(a, loops, begin, end, [](Vec x, Vec y) { return x / y; });
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
#else
#include "cpu/tuning.h"

#define ML_ISA_SOURCE "ops/arithmetic.cpp"
#include "cpu/foreach_isa.h"

namespace ml::cpu {

void arithmetic(KernelContext& ctx, const Arithmetic& a) {
  const auto range = ML_DISPATCH(arithmetic_range);
  const Loops<2> loops = loops_of(a);
  ctx.parallel_for(a.out.size(), kElementwiseGrain,
                   [&](int64_t begin, int64_t end, int) { range(a, loops, begin, end); });
}

}  // namespace ml::cpu
#endif
