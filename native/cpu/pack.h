// Packing of matrices for cpu/gemm.h. Included inside an instruction-set pass, like simd.h.
//
// Rows of A, or columns of B, are interleaved in a panel [K, width], so that the micro-kernel reads
// both of its operands in order. Both are called rows here: columns of B are rows of its transpose.

#if defined(ML_CPU_PACK_H) == defined(ML_ISA_TOGGLE)
#ifdef ML_CPU_PACK_H
#undef ML_CPU_PACK_H
#else
#define ML_CPU_PACK_H
#endif

namespace ml::cpu::ML_ISA {
namespace {

// Element k of row r is data[r * stride + k * step].
struct StridedRows {
  const float* data;
  int64_t stride, step;
};

typedef float Vec4 __attribute__((vector_size(16)));
typedef float UnalignedVec4 __attribute__((vector_size(16), aligned(1), may_alias));

[[maybe_unused]] inline Vec4 load_vec4(const float* p) {
  return *reinterpret_cast<const UnalignedVec4*>(p);
}
[[maybe_unused]] inline void store_vec4(float* p, Vec4 v) {
  *reinterpret_cast<UnalignedVec4*>(p) = v;
}

// In every four lanes: elements i0 … i3 of the eight that a and b have there.
template <int i0, int i1, int i2, int i3, class V, int... lane>
[[maybe_unused]] inline V shuffle_vec4(V a, V b, std::integer_sequence<int, lane...>) {
  constexpr int from[4] = {i0, i1, i2, i3};
  return __builtin_shufflevector(a, b,
                                 (lane / 4 * 4 + from[lane % 4] % 4 +
                                  (from[lane % 4] < 4 ? 0 : static_cast<int>(sizeof...(lane))))...);
}

// In every four lanes: the transpose of 4 x 4 elements.
template <class V>
[[maybe_unused]] inline void transpose_4x4(V& a, V& b, V& c, V& d) {
  constexpr std::make_integer_sequence<int, sizeof(V) / sizeof(float)> lanes{};
  const V ab0 = shuffle_vec4<0, 4, 1, 5>(a, b, lanes), ab1 = shuffle_vec4<2, 6, 3, 7>(a, b, lanes);
  const V cd0 = shuffle_vec4<0, 4, 1, 5>(c, d, lanes), cd1 = shuffle_vec4<2, 6, 3, 7>(c, d, lanes);
  a = shuffle_vec4<0, 1, 4, 5>(ab0, cd0, lanes);
  b = shuffle_vec4<2, 3, 6, 7>(ab0, cd0, lanes);
  c = shuffle_vec4<0, 1, 4, 5>(ab1, cd1, lanes);
  d = shuffle_vec4<2, 3, 6, 7>(ab1, cd1, lanes);
}

// Four elements of each of kWidth / 4 rows, `stride` from one to the next.
[[maybe_unused]] inline Vec load_vec4_rows(const float* p, [[maybe_unused]] int64_t stride) {
#if ML_ISA_LEVEL == 3
  const __m256 low =
      _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(p + stride), 1);
  const __m256 high = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p + 2 * stride)),
                                           _mm_loadu_ps(p + 3 * stride), 1);
  return reinterpret_cast<Vec>(_mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1));
#elif ML_ISA_LEVEL == 2
  return reinterpret_cast<Vec>(
      _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(p + stride), 1));
#else
  return load_vec4(p);
#endif
}

// kWidth contiguous rows, `stride` apart, into as many columns of a panel of `width`.
template <int width>
[[maybe_unused]] inline void interleave_vectors(float* panel, const float* data, int64_t stride,
                                                int64_t depth) {
  int64_t k = 0;
  for (; k + 4 <= depth; k += 4) {
    Vec v[4];
    for (int i = 0; i < 4; ++i) v[i] = load_vec4_rows(data + i * stride + k, 4 * stride);
    transpose_4x4(v[0], v[1], v[2], v[3]);
    for (int i = 0; i < 4; ++i) store(panel + (k + i) * width, v[i]);
  }
  for (; k < depth; ++k)
    for (int r = 0; r < kWidth; ++r) panel[k * width + r] = data[r * stride + k];
}

// The same for two or four rows.
template <int kRows, int width>
[[maybe_unused]] inline void interleave_rows(float* panel, const float* data, int64_t stride,
                                             int64_t depth) {
  const float* const rows[4] = {data, data + stride, kRows > 2 ? data + 2 * stride : data,
                                kRows > 2 ? data + 3 * stride : data};
  int64_t k = 0;
  for (; k + 4 <= depth; k += 4) {
    Vec4 v[4] = {load_vec4(rows[0] + k), load_vec4(rows[1] + k), load_vec4(rows[2] + k),
                 load_vec4(rows[3] + k)};
    transpose_4x4(v[0], v[1], v[2], v[3]);
    for (int i = 0; i < 4; ++i) {
      if constexpr (kRows == 4)
        store_vec4(panel + (k + i) * width, v[i]);
      else
        __builtin_memcpy(panel + (k + i) * width, &v[i], 2 * sizeof(float));
    }
  }
  for (; k < depth; ++k)
    for (int r = 0; r < kRows; ++r) panel[k * width + r] = rows[r][k];
}

// panel [depth, width]: elements k0 … k0 + depth of rows first … first + width; zeros past `count`.
template <int width>
[[maybe_unused]] inline void pack(float* panel, const StridedRows& m, int64_t first, int64_t count,
                                  int64_t k0, int64_t depth) {
  const float* data = m.data + first * m.stride + k0 * m.step;
  const int64_t rows = count - first < width ? count - first : width;
  if (rows == width && m.stride == 1) {
    for (int64_t k = 0; k < depth; ++k)
      __builtin_memcpy(panel + k * width, data + k * m.step, width * sizeof(float));
    return;
  }
  int64_t r = 0;
  if (m.step == 1) {
    for (; r + kWidth <= rows; r += kWidth)
      interleave_vectors<width>(panel + r, data + r * m.stride, m.stride, depth);
    for (; r + 4 <= rows; r += 4)
      interleave_rows<4, width>(panel + r, data + r * m.stride, m.stride, depth);
    for (; r + 2 <= rows; r += 2)
      interleave_rows<2, width>(panel + r, data + r * m.stride, m.stride, depth);
  }
  for (; r < rows; ++r)
    for (int64_t k = 0; k < depth; ++k) panel[k * width + r] = data[r * m.stride + k * m.step];
  for (; r < width; ++r)
    for (int64_t k = 0; k < depth; ++k) panel[k * width + r] = 0;
}

}  // namespace
}  // namespace ml::cpu::ML_ISA

#endif
