// Matrix products in float32: C[M, N] = A[M, K] B[K, N] (+ bias) (+ C), each matrix by strides of its rows and columns, so that
// transposes are the same code. Included inside an instruction-set pass, like simd.h.
//
// B is packed into panels of kTileColumns columns, A into panels of kTileRows rows; the micro-kernel keeps one tile of C in registers and
// walks K once, in order. K is cut into blocks of kBlockK, added one after another, so the sum of an element has one order whatever
// the number of threads (Goto and van de Geijn 2008).

namespace ml::cpu::ML_ISA {
namespace {

#if ML_ISA_LEVEL == 3
constexpr int kTileRows = 12;
constexpr int kTileVectors = 2;  // 24 accumulators of 32 registers
#elif ML_ISA_LEVEL == 2
constexpr int kTileRows = 6;
constexpr int kTileVectors = 2;  // 12 of 16
#else
constexpr int kTileRows = 4;
constexpr int kTileVectors = 2;  // 8 of 16
#endif
constexpr int kTileColumns = kTileVectors * kWidth;
constexpr int64_t kBlockK = 384;      // a panel of B then takes 48 KB at most: L1 with the streams of A
constexpr int64_t kBlockRows = 10 * kTileRows;

struct Matrix {
  const float* data;
  int64_t row, column;  // strides in elements
  float at(int64_t i, int64_t j) const { return data[i * row + j * column]; }
};

// panel [K, kTileColumns] of columns j0 … of B, zeros past N
[[maybe_unused]] inline void pack_columns(float* panel, const Matrix& b, int64_t k0, int64_t k1, int64_t j0, int64_t N) {
  const int64_t n = N - j0 < kTileColumns ? N - j0 : kTileColumns;
  if (b.column == 1 && n == kTileColumns) {
    for (int64_t k = k0; k < k1; ++k, panel += kTileColumns)
      for (int v = 0; v < kTileVectors; ++v) store(panel + v * kWidth, load(b.data + k * b.row + j0 + v * kWidth));
    return;
  }
  for (int64_t j = 0; j < kTileColumns; ++j) {
    if (j >= n) {
      for (int64_t k = 0; k < k1 - k0; ++k) panel[k * kTileColumns + j] = 0;
      continue;
    }
    const float* source = b.data + (j0 + j) * b.column + k0 * b.row;
    for (int64_t k = 0; k < k1 - k0; ++k) panel[k * kTileColumns + j] = source[k * b.row];
  }
}

// panel [K, kTileRows] of rows i0 … of A, zeros past M
[[maybe_unused]] inline void pack_rows(float* panel, const Matrix& a, int64_t k0, int64_t k1, int64_t i0, int64_t M) {
  const int64_t m = M - i0 < kTileRows ? M - i0 : kTileRows;
  for (int64_t i = 0; i < kTileRows; ++i) {
    if (i >= m) {
      for (int64_t k = 0; k < k1 - k0; ++k) panel[k * kTileRows + i] = 0;
      continue;
    }
    const float* source = a.data + (i0 + i) * a.row + k0 * a.column;
    for (int64_t k = 0; k < k1 - k0; ++k) panel[k * kTileRows + i] = source[k * a.column];
  }
}

// One tile: acc[r][v] += sum over k of a[k][r] * b[k][v]. Panels as packed above.
using Tile = Vec[kTileRows][kTileVectors];

[[maybe_unused]] inline __attribute__((always_inline)) void multiply_tile(Tile& acc, const float* a, const float* b, int64_t K) {
  for (int64_t k = 0; k < K; ++k, a += kTileRows, b += kTileColumns) {
    const Vec b0 = load(b), b1 = load(b + kWidth);
    for (int r = 0; r < kTileRows; ++r) {
      const Vec x = set1(a[r]);
      acc[r][0] = fma(x, b0, acc[r][0]);
      acc[r][1] = fma(x, b1, acc[r][1]);
    }
  }
}

struct Product {
  float* c;
  int64_t ldc;
  Matrix a, b;
  int64_t M, N, K;
  const float* bias;  // [N], or nullptr
  bool accumulate;
};

// Adds a tile to C, or stores it with the bias where it is the first of its sum.
[[maybe_unused]] inline void write_tile(const Product& p, const Tile& acc, int64_t i0, int64_t j0, bool first) {
  const int64_t m = p.M - i0 < kTileRows ? p.M - i0 : kTileRows;
  for (int64_t r = 0; r < m; ++r) {
    for (int v = 0; v < kTileVectors; ++v) {
      const int64_t j = j0 + v * kWidth;
      if (j >= p.N) break;
      const int n = p.N - j < kWidth ? static_cast<int>(p.N - j) : kWidth;
      float* c = p.c + (i0 + r) * p.ldc + j;
      Vec sum = acc[r][v];
      if (!first || p.accumulate) sum += n == kWidth ? load(c) : load_partial(c, n);
      if (first && p.bias) sum += n == kWidth ? load(p.bias + j) : load_partial(p.bias + j, n);
      n == kWidth ? store(c, sum) : store_partial(c, sum, n);
    }
  }
}

// Rows i0 … i1 of C against all packed panels of B for k0 … k1. panel_a: room for kBlockRows * kBlockK.
[[maybe_unused]] inline void multiply_rows(const Product& p, const float* packed_b, float* panel_a, int64_t i0, int64_t i1, int64_t k0,
                                           int64_t k1) {
  const int64_t depth = k1 - k0;
  for (int64_t i = i0; i < i1; i += kTileRows) pack_rows(panel_a + (i - i0) * depth, p.a, k0, k1, i, p.M);
  for (int64_t j = 0; j < p.N; j += kTileColumns) {
    const float* b = packed_b + j / kTileColumns * (depth * kTileColumns);
    for (int64_t i = i0; i < i1; i += kTileRows) {
      Tile acc{};
      multiply_tile(acc, panel_a + (i - i0) * depth, b, depth);
      write_tile(p, acc, i, j, k0 == 0);
    }
  }
}

// Few rows: every row of C against B as it lies, without packing. B's inner stride decides the loop.
[[maybe_unused]] inline void multiply_few_rows(const Product& p, int64_t j0, int64_t j1) {
  for (int64_t i = 0; i < p.M; ++i) {
    float* c = p.c + i * p.ldc;
    if (p.b.row == 1) {  // columns of B are contiguous: dot products, four columns at a time
      for (int64_t j = j0; j < j1; ++j) {
        const float* b = p.b.data + j * p.b.column;
        Vec s0{}, s1{}, s2{}, s3{};
        float rest = 0;
        int64_t k = 0;
        if (p.a.column == 1) {
          const float* a = p.a.data + i * p.a.row;
          for (; k + 4 * kWidth <= p.K; k += 4 * kWidth) {
            s0 = fma(load(a + k), load(b + k), s0);
            s1 = fma(load(a + k + kWidth), load(b + k + kWidth), s1);
            s2 = fma(load(a + k + 2 * kWidth), load(b + k + 2 * kWidth), s2);
            s3 = fma(load(a + k + 3 * kWidth), load(b + k + 3 * kWidth), s3);
          }
        }
        for (; k < p.K; ++k) rest += p.a.at(i, k) * b[k];
        const float sum = reduce_add((s0 + s1) + (s2 + s3)) + rest;
        c[j] = sum + (p.accumulate ? c[j] : 0) + (p.bias ? p.bias[j] : 0);
      }
    } else {
      for (int64_t j = j0; j < j1; ++j) c[j] = (p.accumulate ? c[j] : 0) + (p.bias ? p.bias[j] : 0);
      for (int64_t k = 0; k < p.K; ++k) {
        const float a = p.a.at(i, k);
        const float* b = p.b.data + k * p.b.row;
        for (int64_t j = j0; j < j1; ++j) c[j] += a * b[j * p.b.column];
      }
    }
  }
}

[[maybe_unused]] inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// The whole product over the threads of the context.
[[maybe_unused]] void multiply(Context& ctx, const Product& p) {
  if (p.M == 0 || p.N == 0) return;
  if (p.M <= 4 || p.K == 0) {
    ctx.parallel_for(p.N, 256, [&](int64_t begin, int64_t end, int) { multiply_few_rows(p, begin, end); });
    return;
  }
  const int64_t depth = p.K < kBlockK ? p.K : kBlockK;
  float* packed_b = ctx.scratch<float>(round_up(p.N, kTileColumns) * depth);
  float* panels_a = ctx.scratch<float>(ctx.threads() * kBlockRows * depth);
  const int64_t panels = round_up(p.N, kTileColumns) / kTileColumns;
  for (int64_t k0 = 0; k0 < p.K; k0 += kBlockK) {
    const int64_t k1 = k0 + kBlockK < p.K ? k0 + kBlockK : p.K;
    ctx.parallel_for(panels, 4, [&](int64_t begin, int64_t end, int) {
      for (int64_t j = begin; j < end; ++j) pack_columns(packed_b + j * (k1 - k0) * kTileColumns, p.b, k0, k1, j * kTileColumns, p.N);
    });
    // Few rows over many threads: shorter blocks, so that each thread has one.
    int64_t block = kBlockRows;
    while (block > kTileRows && p.M < block * ctx.threads() * 2) block -= kTileRows;
    ctx.parallel_for(p.M, block, [&](int64_t begin, int64_t end, int worker) {
      multiply_rows(p, packed_b, panels_a + worker * kBlockRows * depth, begin, end, k0, k1);
    });
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
