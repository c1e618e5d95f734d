// log and tanh on Vec; exp and sqrt are in simd.h. Included inside an instruction-set pass, like
// simd.h.

#if defined(ML_CPU_ELEMENTARY_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_CPU_ELEMENTARY_H
#undef ML_CPU_ELEMENTARY_H
#else
#define ML_CPU_ELEMENTARY_H
#endif

namespace ml::cpu::ML_ISA {
namespace {

// Natural logarithm within 1 ulp, or 2 without fused multiply-add. With x = 2^e m, m in
// [sqrt(1/2), sqrt 2), f = m - 1 and s = f / (2 + f),
//   log m = 2 atanh(s) = f - s (f - R),   R = 2/3 s^2 + 2/5 s^4 + 2/7 s^6 + 2/9 s^8
[[maybe_unused]] inline Vec log(Vec x) {
  const auto subnormal = x < 1.17549435e-38f;
  const Vec scaled = subnormal ? x * 0x1p25f : x;
  const IVec offset = as_int(scaled) - 0x3f3504f3;  // the bits of sqrt(1/2)
  const IVec e = (offset >> 23) - (subnormal & 25);
  const Vec f = as_float((offset & 0x7fffff) + 0x3f3504f3) - 1.0f;
  const Vec s = f / (2.0f + f), z = s * s;
  Vec p = set1(2.0f / 9.0f);
  p = fma(p, z, set1(2.0f / 7.0f));
  p = fma(p, z, set1(2.0f / 5.0f));
  p = fma(p, z, set1(2.0f / 3.0f));
  const Vec n = __builtin_convertvector(e, Vec);
  // ln 2 in two parts, the first with so few bits that n times it is exact
  const Vec low = fma(n, set1(1.42860682030941723212e-6f), -(s * (f - z * p)));
  const Vec result = n * 0.693145751953125f + (low + f);
  const Vec below = x < 0.0f ? set1(__builtin_nanf("")) : x;  // Inf and NaN stay
  const Vec special = x == 0.0f ? set1(-__builtin_inff()) : below;
  return (x > 0.0f) & (x < __builtin_inff()) ? result : special;
}

// tanh within 3 ulp: below 5/8 x + x^3 p(x^2), with p a minimax fit of degree 4 (relative error of
// tanh 5e-9); above it 1 - 2 / (exp(2 |x|) + 1).
[[maybe_unused]] inline Vec tanh(Vec x) {
  const IVec sign = as_int(x) & INT32_MIN;
  const Vec magnitude = as_float(as_int(x) ^ sign), z = x * x;
  Vec p = set1(-0.00564831588f);
  p = fma(p, z, set1(0.0205898266f));
  p = fma(p, z, set1(-0.0537251271f));
  p = fma(p, z, set1(0.133312747f));
  p = fma(p, z, set1(-0.333332747f));
  const Vec small = fma(magnitude * z, p, magnitude);
  const Vec large = 1.0f - 2.0f / (exp(2.0f * magnitude) + 1.0f);
  return as_float(as_int(magnitude < 0.625f ? small : large) | sign);
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
