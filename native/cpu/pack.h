// Packing of matrices for cpu/gemm.h: `lines` of a matrix (rows of A, or columns of B) side by
// side, one step of the inner dimension after another, so that the micro-kernel reads both of its
// operands in order. Included inside an instruction-set pass, like simd.h.

#if defined(ML_CPU_PACK_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_CPU_PACK_H
#undef ML_CPU_PACK_H
#else
#define ML_CPU_PACK_H
#endif

namespace ml::cpu::ML_ISA {
namespace {

// Lines of `depth` numbers: number k of line l is data[l * line + k * step].
struct Lines {
  const float* data;
  int64_t line, step;
};

typedef float Four __attribute__((vector_size(16)));
typedef float UnalignedFour __attribute__((vector_size(16), aligned(1), may_alias));

[[maybe_unused]] inline Four load_four(const float* p) {
  return *reinterpret_cast<const UnalignedFour*>(p);
}
[[maybe_unused]] inline void store_four(float* p, Four v) {
  *reinterpret_cast<UnalignedFour*>(p) = v;
}

// In every four lanes: numbers i0 … i3 of the eight of a and of b there.
template <int i0, int i1, int i2, int i3, class V, int... lane>
[[maybe_unused]] inline V pick(V a, V b, std::integer_sequence<int, lane...>) {
  constexpr int from[4] = {i0, i1, i2, i3};
  return __builtin_shufflevector(a, b,
                                 (lane / 4 * 4 + from[lane % 4] % 4 +
                                  (from[lane % 4] < 4 ? 0 : static_cast<int>(sizeof...(lane))))...);
}

// In every four lanes, 4 x 4 numbers.
template <class V>
[[maybe_unused]] inline void transpose(V& a, V& b, V& c, V& d) {
  constexpr std::make_integer_sequence<int, sizeof(V) / sizeof(float)> lanes{};
  const V ab0 = pick<0, 4, 1, 5>(a, b, lanes), ab1 = pick<2, 6, 3, 7>(a, b, lanes);
  const V cd0 = pick<0, 4, 1, 5>(c, d, lanes), cd1 = pick<2, 6, 3, 7>(c, d, lanes);
  a = pick<0, 1, 4, 5>(ab0, cd0, lanes);
  b = pick<2, 3, 6, 7>(ab0, cd0, lanes);
  c = pick<0, 1, 4, 5>(ab1, cd1, lanes);
  d = pick<2, 3, 6, 7>(ab1, cd1, lanes);
}

// Four numbers of each of kWidth / 4 lines, `apart` from one another.
[[maybe_unused]] inline Vec load_fours(const float* p, [[maybe_unused]] int64_t apart) {
#if ML_ISA_LEVEL == 3
  const __m256 low =
      _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(p + apart), 1);
  const __m256 high = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p + 2 * apart)),
                                           _mm_loadu_ps(p + 3 * apart), 1);
  return reinterpret_cast<Vec>(_mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1));
#elif ML_ISA_LEVEL == 2
  return reinterpret_cast<Vec>(
      _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(p + apart), 1));
#else
  return load_four(p);
#endif
}

// Neighbouring lines of contiguous numbers into the columns of a panel that is `width` wide: kWidth
// lines.
template <int width>
[[maybe_unused]] inline void interleave_vectors(float* panel, const float* data, int64_t line,
                                                int64_t depth) {
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
[[maybe_unused]] inline void interleave(float* panel, const float* data, int64_t line,
                                        int64_t depth) {
  const float* const rest[4] = {data, data + line, kLines > 2 ? data + 2 * line : data,
                                kLines > 2 ? data + 3 * line : data};
  int64_t k = 0;
  for (; k + 4 <= depth; k += 4) {
    Four v[4] = {load_four(rest[0] + k), load_four(rest[1] + k), load_four(rest[2] + k),
                 load_four(rest[3] + k)};
    transpose(v[0], v[1], v[2], v[3]);
    for (int i = 0; i < 4; ++i) {
      if constexpr (kLines == 4)
        store_four(panel + (k + i) * width, v[i]);
      else
        __builtin_memcpy(panel + (k + i) * width, &v[i], 2 * sizeof(float));
    }
  }
  for (; k < depth; ++k)
    for (int l = 0; l < kLines; ++l) panel[k * width + l] = rest[l][k];
}

// panel [depth, width] of lines first … first + width; zeros past `count`
template <int width>
[[maybe_unused]] inline void pack(float* panel, const Lines& m, int64_t first, int64_t count,
                                  int64_t k0, int64_t depth) {
  const float* data = m.data + first * m.line + k0 * m.step;
  if (count - first >= width) {
    if (m.line == 1) {
      for (int64_t k = 0; k < depth; ++k)
        __builtin_memcpy(panel + k * width, data + k * m.step, width * sizeof(float));
      return;
    }
    if (m.step == 1) {
      constexpr int vectors = width / kWidth * kWidth;
      for (int l = 0; l < vectors; l += kWidth)
        interleave_vectors<width>(panel + l, data + l * m.line, m.line, depth);
      for (int l = vectors; l + 4 <= width; l += 4)
        interleave<4, width>(panel + l, data + l * m.line, m.line, depth);
      if constexpr (width % 4 == 2)
        interleave<2, width>(panel + width - 2, data + (width - 2) * m.line, m.line, depth);
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

#endif
