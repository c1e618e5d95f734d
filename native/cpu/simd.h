// A thin vector of floats for one instruction set. Included by foreach_isa.h once per set, so it
// has no include guard. `Vec` is a compiler vector type: + - * / work on it; the rest is here.
//
//   baseline: 4 floats (SSE2 or NEON)     avx2: 8 floats     avx512: 16 floats

namespace ml::cpu::ML_ISA {
namespace {

#if ML_ISA_LEVEL == 3
constexpr int kWidth = 16;
#elif ML_ISA_LEVEL == 2
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif

typedef float Vec __attribute__((vector_size(4 * kWidth)));
typedef int32_t IVec __attribute__((vector_size(4 * kWidth)));
typedef float UnalignedVec __attribute__((vector_size(4 * kWidth), aligned(1), may_alias));

[[maybe_unused]] inline Vec load(const float* p) {
  return *reinterpret_cast<const UnalignedVec*>(p);
}
[[maybe_unused]] inline void store(float* p, Vec v) { *reinterpret_cast<UnalignedVec*>(p) = v; }
// Not Vec{} + x, which the compiler must take for an addition (-0 + 0 is +0).
[[maybe_unused]] inline Vec set1(float x) {
#if ML_ISA_LEVEL == 3
  return reinterpret_cast<Vec>(_mm512_set1_ps(x));
#elif ML_ISA_LEVEL == 2
  return reinterpret_cast<Vec>(_mm256_set1_ps(x));
#else
  return Vec{x, x, x, x};
#endif
}
[[maybe_unused]] inline IVec as_int(Vec v) { return reinterpret_cast<IVec>(v); }
[[maybe_unused]] inline Vec as_float(IVec v) { return reinterpret_cast<Vec>(v); }

// a * b + c, with one rounding where the set has fused multiply-add
[[maybe_unused]] inline Vec fma(Vec a, Vec b, Vec c) {
#if ML_ISA_LEVEL == 3
  return reinterpret_cast<Vec>(_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c));
#elif ML_ISA_LEVEL == 2
  return reinterpret_cast<Vec>(_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c));
#elif defined(__aarch64__)
  Vec r;
  for (int i = 0; i < kWidth; ++i) r[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return r;
#else
  return a * b + c;
#endif
}

// The first n floats (0 <= n <= kWidth), zeros behind them. Other memory is not touched.
[[maybe_unused]] inline Vec load_partial(const float* p, int n) {
#if ML_ISA_LEVEL == 3
  return reinterpret_cast<Vec>(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1u), p));
#else
  alignas(4 * kWidth) float t[kWidth] = {};
  for (int i = 0; i < n; ++i) t[i] = p[i];
  return load(t);
#endif
}
[[maybe_unused]] inline void store_partial(float* p, Vec v, int n) {
#if ML_ISA_LEVEL == 3
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1u), (__m512)v);
#else
  for (int i = 0; i < n; ++i) p[i] = v[i];
#endif
}

// Loads that convert: kWidth 16-bit or 8-bit elements to float.
[[maybe_unused]] inline Vec load(const BFloat16* p) {
#if ML_ISA_LEVEL == 3
  const __m256i h = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return reinterpret_cast<Vec>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
#elif ML_ISA_LEVEL == 2
  const __m128i h = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return reinterpret_cast<Vec>(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
#else
  Vec r;
  for (int i = 0; i < kWidth; ++i) r[i] = to_float(p[i]);
  return r;
#endif
}
[[maybe_unused]] inline Vec load(const Half* p) {
#if ML_ISA_LEVEL == 3
  return reinterpret_cast<Vec>(
      _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
#elif ML_ISA_LEVEL == 2
  return reinterpret_cast<Vec>(
      _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#else
  Vec r;
  for (int i = 0; i < kWidth; ++i) r[i] = to_float(p[i]);
  return r;
#endif
}
[[maybe_unused]] inline Vec load(const int8_t* p) {
#if ML_ISA_LEVEL == 3
  const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return reinterpret_cast<Vec>(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(b)));
#elif ML_ISA_LEVEL == 2
  const __m128i b = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return reinterpret_cast<Vec>(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)));
#else
  Vec r;
  for (int i = 0; i < kWidth; ++i) r[i] = static_cast<float>(p[i]);
  return r;
#endif
}

// 2 * kWidth elements as stored, two to a lane.
[[maybe_unused]] inline IVec load_bits(const BFloat16* p) {
  return as_int(load(reinterpret_cast<const float*>(p)));
}

// Stores that round to nearest even: kWidth floats to 16-bit elements.
[[maybe_unused]] inline void store(BFloat16* p, Vec v) {
#if ML_ISA_LEVEL >= 2
  const IVec u = as_int(v);
  const IVec quiet = (u >> 16) | 0x40, rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  const IVec bits = (v != v ? quiet : rounded) & 0xffff;
#if ML_ISA_LEVEL == 3
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16((__m512i)bits));
#else
  const __m256i words =
      _mm256_permute4x64_epi64(_mm256_packus_epi32((__m256i)bits, (__m256i)bits), 0x08);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(words));
#endif
#else
  for (int i = 0; i < kWidth; ++i) p[i] = to_bfloat16(v[i]);
#endif
}
[[maybe_unused]] inline void store(Half* p, Vec v) {
#if ML_ISA_LEVEL == 3
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
#elif ML_ISA_LEVEL == 2
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
#else
  for (int i = 0; i < kWidth; ++i) p[i] = to_half(v[i]);
#endif
}

// Rounded to the nearest bfloat16, ties to even; NaN stays NaN.
[[maybe_unused]] inline Vec round_to_bfloat16(Vec v) {
  const IVec u = as_int(v);
  const IVec quiet = u | 0x400000, rounded = u + 0x7fff + ((u >> 16) & 1);
  return as_float((v != v ? quiet : rounded) & -0x10000);
}

// p = even[0], odd[0], even[1], …
[[maybe_unused]] inline void interleave(float* p, Vec even, Vec odd) {
#if ML_ISA_LEVEL == 3
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  store(p, reinterpret_cast<Vec>(_mm512_permutex2var_ps((__m512)even, low, (__m512)odd)));
  store(p + kWidth, reinterpret_cast<Vec>(_mm512_permutex2var_ps((__m512)even, high, (__m512)odd)));
#elif ML_ISA_LEVEL == 2
  const __m256 low = _mm256_unpacklo_ps((__m256)even, (__m256)odd),
               high = _mm256_unpackhi_ps((__m256)even, (__m256)odd);
  store(p, reinterpret_cast<Vec>(_mm256_permute2f128_ps(low, high, 0x20)));
  store(p + kWidth, reinterpret_cast<Vec>(_mm256_permute2f128_ps(low, high, 0x31)));
#else
  for (int i = 0; i < kWidth; ++i) {
    p[2 * i] = even[i];
    p[2 * i + 1] = odd[i];
  }
#endif
}

// One element as float, for the columns at the end of a row that fill no vector.
[[maybe_unused]] inline float load_one(const float* p) { return *p; }
[[maybe_unused]] inline float load_one(const BFloat16* p) { return to_float(*p); }
[[maybe_unused]] inline float load_one(const Half* p) { return to_float(*p); }
[[maybe_unused]] inline float load_one(const int8_t* p) { return static_cast<float>(*p); }

// b where either is NaN.
[[maybe_unused]] inline Vec max(Vec a, Vec b) {
#if ML_ISA_LEVEL == 3
  return reinterpret_cast<Vec>(_mm512_max_ps((__m512)a, (__m512)b));
#elif ML_ISA_LEVEL == 2
  return reinterpret_cast<Vec>(_mm256_max_ps((__m256)a, (__m256)b));
#elif defined(__SSE2__)
  return reinterpret_cast<Vec>(_mm_max_ps((__m128)a, (__m128)b));
#else
  return a > b ? a : b;
#endif
}
[[maybe_unused]] inline Vec min(Vec a, Vec b) {
#if ML_ISA_LEVEL == 3
  return reinterpret_cast<Vec>(_mm512_min_ps((__m512)a, (__m512)b));
#elif ML_ISA_LEVEL == 2
  return reinterpret_cast<Vec>(_mm256_min_ps((__m256)a, (__m256)b));
#elif defined(__SSE2__)
  return reinterpret_cast<Vec>(_mm_min_ps((__m128)a, (__m128)b));
#else
  return a < b ? a : b;
#endif
}

[[maybe_unused]] inline Vec sqrt(Vec v) {
#if ML_ISA_LEVEL == 3
  return reinterpret_cast<Vec>(_mm512_sqrt_ps((__m512)v));
#elif ML_ISA_LEVEL == 2
  return reinterpret_cast<Vec>(_mm256_sqrt_ps((__m256)v));
#else
  Vec r;
  for (int i = 0; i < kWidth; ++i) r[i] = __builtin_sqrtf(v[i]);
  return r;
#endif
}

// All lanes into one: in each step the upper half of them is combined with the lower.
template <class Combine>
[[maybe_unused]] inline float reduce(Vec v, Combine&& combine) {
#if ML_ISA_LEVEL == 3
  v = combine(v, reinterpret_cast<Vec>(_mm512_shuffle_f32x4((__m512)v, (__m512)v, 0x4e)));
  v = combine(v, reinterpret_cast<Vec>(_mm512_shuffle_f32x4((__m512)v, (__m512)v, 0xb1)));
  v = combine(v, reinterpret_cast<Vec>(_mm512_permute_ps((__m512)v, 0x4e)));
  v = combine(v, reinterpret_cast<Vec>(_mm512_permute_ps((__m512)v, 0xb1)));
#elif ML_ISA_LEVEL == 2
  v = combine(v, reinterpret_cast<Vec>(_mm256_permute2f128_ps((__m256)v, (__m256)v, 1)));
  v = combine(v, reinterpret_cast<Vec>(_mm256_permute_ps((__m256)v, 0x4e)));
  v = combine(v, reinterpret_cast<Vec>(_mm256_permute_ps((__m256)v, 0xb1)));
#else
  v = combine(v, __builtin_shufflevector(v, v, 2, 3, 0, 1));
  v = combine(v, __builtin_shufflevector(v, v, 1, 0, 3, 2));
#endif
  return v[0];
}

// Pairwise, in one order.
[[maybe_unused]] inline float reduce_add(Vec v) {
  return reduce(v, [](Vec a, Vec b) { return a + b; });
}
[[maybe_unused]] inline float reduce_max(Vec v) {
  return reduce(v, [](Vec a, Vec b) { return max(a, b); });
}
[[maybe_unused]] inline float reduce_min(Vec v) {
  return reduce(v, [](Vec a, Vec b) { return min(a, b); });
}

// One bit per lane where a > b (false for NaN).
[[maybe_unused]] inline uint32_t greater_bits(Vec a, Vec b) {
#if ML_ISA_LEVEL == 3
  return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ);
#elif ML_ISA_LEVEL == 2
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_GT_OQ)));
#else
  uint32_t bits = 0;
  for (int i = 0; i < kWidth; ++i) bits |= static_cast<uint32_t>(a[i] > b[i]) << i;
  return bits;
#endif
}

// e^x within 2 ulp on the whole range: x = n ln 2 + r, a degree-6 polynomial in r, then a scale by
// 2^n. Overflows to +Inf, underflows to 0 (through subnormals), NaN stays NaN.
[[maybe_unused]] inline Vec exp(Vec x) {
  const Vec clamped = x < -104.0f ? set1(-104.0f) : (x > 89.0f ? set1(89.0f) : x);
  const Vec magic = set1(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Vec shifted = clamped * 1.44269504088896341f + magic;
  const Vec n = shifted - magic;
  Vec r = fma(n, set1(-0.693145751953125f), clamped);
  r = fma(n, set1(-1.42860682030941723212e-6f), r);
  Vec p = set1(1.0f / 720.0f);
  p = fma(p, r, set1(1.0f / 120.0f));
  p = fma(p, r, set1(1.0f / 24.0f));
  p = fma(p, r, set1(1.0f / 6.0f));
  p = fma(p, r, set1(0.5f));
  p = fma(p, r, set1(1.0f));
  p = fma(p, r, set1(1.0f));
  // 2^n in two factors, so that subnormal results and n = 128 come out right.
  const IVec i = __builtin_convertvector(n, IVec);
  const IVec low = i >> 1;
  const IVec high = i - low;
  const Vec result = p * as_float((low + 127) << 23) * as_float((high + 127) << 23);
  return x != x ? x : result;
}

[[maybe_unused]] inline Vec sigmoid(Vec x) { return set1(1.0f) / (set1(1.0f) + exp(-x)); }

}  // namespace
}  // namespace ml::cpu::ML_ISA
