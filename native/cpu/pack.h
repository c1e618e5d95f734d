// Packing of matrices for cpu/gemm.h: `lines` of a matrix (rows of A, or columns of B) side by side, one step of the inner dimension after
// another, so that the micro-kernel reads both of its operands in order. Included inside an instruction-set pass, like simd.h.

namespace ml::cpu::ML_ISA {
namespace {

// Lines of `depth` numbers: number k of line l is data[l * line + k * step].
struct Lines {
  const float* data;
  int64_t line, step;
};

typedef float Four __attribute__((vector_size(16)));
typedef float UnalignedFour __attribute__((vector_size(16), aligned(1), may_alias));

[[maybe_unused]] inline Four load_four(const float* p) { return *reinterpret_cast<const UnalignedFour*>(p); }
[[maybe_unused]] inline void store_four(float* p, Four v) { *reinterpret_cast<UnalignedFour*>(p) = v; }

[[maybe_unused]] inline void transpose(Four& a, Four& b, Four& c, Four& d) {
  const Four ab0 = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab1 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Four cd0 = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd1 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  a = __builtin_shufflevector(ab0, cd0, 0, 1, 4, 5);
  b = __builtin_shufflevector(ab0, cd0, 2, 3, 6, 7);
  c = __builtin_shufflevector(ab1, cd1, 0, 1, 4, 5);
  d = __builtin_shufflevector(ab1, cd1, 2, 3, 6, 7);
}

#if ML_ISA_LEVEL >= 2
// The same in every four lanes.
[[maybe_unused]] inline void transpose(Vec& a, Vec& b, Vec& c, Vec& d) {
#if ML_ISA_LEVEL == 3
  const __m512d ab0 = (__m512d)_mm512_unpacklo_ps((__m512)a, (__m512)b), ab1 = (__m512d)_mm512_unpackhi_ps((__m512)a, (__m512)b);
  const __m512d cd0 = (__m512d)_mm512_unpacklo_ps((__m512)c, (__m512)d), cd1 = (__m512d)_mm512_unpackhi_ps((__m512)c, (__m512)d);
  a = reinterpret_cast<Vec>(_mm512_unpacklo_pd(ab0, cd0));
  b = reinterpret_cast<Vec>(_mm512_unpackhi_pd(ab0, cd0));
  c = reinterpret_cast<Vec>(_mm512_unpacklo_pd(ab1, cd1));
  d = reinterpret_cast<Vec>(_mm512_unpackhi_pd(ab1, cd1));
#else
  const __m256d ab0 = (__m256d)_mm256_unpacklo_ps((__m256)a, (__m256)b), ab1 = (__m256d)_mm256_unpackhi_ps((__m256)a, (__m256)b);
  const __m256d cd0 = (__m256d)_mm256_unpacklo_ps((__m256)c, (__m256)d), cd1 = (__m256d)_mm256_unpackhi_ps((__m256)c, (__m256)d);
  a = reinterpret_cast<Vec>(_mm256_unpacklo_pd(ab0, cd0));
  b = reinterpret_cast<Vec>(_mm256_unpackhi_pd(ab0, cd0));
  c = reinterpret_cast<Vec>(_mm256_unpacklo_pd(ab1, cd1));
  d = reinterpret_cast<Vec>(_mm256_unpackhi_pd(ab1, cd1));
#endif
}
#endif

// Four numbers of each of kWidth / 4 lines, `apart` from one another.
[[maybe_unused]] inline Vec load_fours(const float* p, [[maybe_unused]] int64_t apart) {
#if ML_ISA_LEVEL == 3
  const __m256 low = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(p + apart), 1);
  const __m256 high = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p + 2 * apart)), _mm_loadu_ps(p + 3 * apart), 1);
  return reinterpret_cast<Vec>(_mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1));
#elif ML_ISA_LEVEL == 2
  return reinterpret_cast<Vec>(_mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(p + apart), 1));
#else
  return load_four(p);
#endif
}

// Neighbouring lines of contiguous numbers into the columns of a panel that is `width` wide: kWidth lines.
template <int width>
[[maybe_unused]] inline void interleave_vectors(float* panel, const float* data, int64_t line, int64_t depth) {
  int64_t k = 0;
  for (; k + 4 <= depth; k += 4) {
    Vec v[4];
    for (int i = 0; i < 4; ++i) v[i] = load_fours(data + i * line + k, 4 * line);
    transpose(v[0], v[1], v[2], v[3]);
    for (int i = 0; i < 4; ++i) store(panel + (k + i) * width, v[i]);
  }
  for (; k < depth; ++k)
    for (int l = 0; l < kWidth; ++l) panel[k * width + l] = data[l * line + k];
}

// The same of two or four.
template <int kLines, int width>
[[maybe_unused]] inline void interleave(float* panel, const float* data, int64_t line, int64_t depth) {
  const float* const rest[4] = {data, data + line, kLines > 2 ? data + 2 * line : data, kLines > 2 ? data + 3 * line : data};
  int64_t k = 0;
  for (; k + 4 <= depth; k += 4) {
    Four v[4] = {load_four(rest[0] + k), load_four(rest[1] + k), load_four(rest[2] + k), load_four(rest[3] + k)};
    transpose(v[0], v[1], v[2], v[3]);
    for (int i = 0; i < 4; ++i) {
      if constexpr (kLines == 4) store_four(panel + (k + i) * width, v[i]);
      else __builtin_memcpy(panel + (k + i) * width, &v[i], 2 * sizeof(float));
    }
  }
  for (; k < depth; ++k)
    for (int l = 0; l < kLines; ++l) panel[k * width + l] = rest[l][k];
}

// panel [depth, width] of lines first … first + width; zeros past `count`
template <int width>
[[maybe_unused]] inline void pack(float* panel, const Lines& m, int64_t first, int64_t count, int64_t k0, int64_t depth) {
  const float* data = m.data + first * m.line + k0 * m.step;
  if (count - first >= width) {
    if (m.line == 1) {
      for (int64_t k = 0; k < depth; ++k) __builtin_memcpy(panel + k * width, data + k * m.step, width * sizeof(float));
      return;
    }
    if (m.step == 1) {
      constexpr int vectors = width / kWidth * kWidth;
      for (int l = 0; l < vectors; l += kWidth) interleave_vectors<width>(panel + l, data + l * m.line, m.line, depth);
      for (int l = vectors; l + 4 <= width; l += 4) interleave<4, width>(panel + l, data + l * m.line, m.line, depth);
      if constexpr (width % 4 == 2) interleave<2, width>(panel + width - 2, data + (width - 2) * m.line, m.line, depth);
      return;
    }
  }
  for (int64_t l = 0; l < width; ++l) {
    if (l < count - first)
      for (int64_t k = 0; k < depth; ++k) panel[k * width + l] = data[l * m.line + k * m.step];
    else
      for (int64_t k = 0; k < depth; ++k) panel[k * width + l] = 0;
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
