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

// Two or four neighbouring lines of contiguous numbers into columns l … of a panel that is `width` wide.
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
      for (int l = 0; l + 4 <= width; l += 4) interleave<4, width>(panel + l, data + l * m.line, m.line, depth);
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
