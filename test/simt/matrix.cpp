#include "matrix.h"

#include <bit>
#include <cstring>

#include "core/half.h"

namespace simt {
namespace {

constexpr int kRows = 16, kColumns = 8, kMaxDepth = 16;

float element(Kind kind, uint32_t reg, int which) {
  if (kind == Kind::mma_tf32)
    return std::bit_cast<float>(reg & 0xffffe000u);  // the rest is ignored
  const uint16_t bits = static_cast<uint16_t>(which ? reg >> 16 : reg);
  return kind == Kind::mma_half ? ml::to_float(ml::Half{bits}) : ml::to_float(ml::BFloat16{bits});
}

}  // namespace

// Products and sums in float64, rounded once: the order of the additions does not matter.
void multiply(Kind kind, Request* const* lanes) {
  const int held = kind == Kind::mma_tf32 ? 1 : 2, depth = 8 * held;  // elements of a register
  float a[kRows][kMaxDepth], b[kMaxDepth][kColumns];
  for (int lane = 0; lane < kWarp; lane++) {
    const int g = lane / 4, t = lane % 4;
    const auto* ra = static_cast<const uint32_t*>(lanes[lane]->in[0]);
    const auto* rb = static_cast<const uint32_t*>(lanes[lane]->in[1]);
    for (int i = 0; i < 4; i++)
      for (int e = 0; e < held; e++)
        a[g + 8 * (i % 2)][held * (t + 4 * (i / 2)) + e] = element(kind, ra[i], e);
    for (int i = 0; i < 2; i++)
      for (int e = 0; e < held; e++) b[held * (t + 4 * i) + e][g] = element(kind, rb[i], e);
  }
  for (int lane = 0; lane < kWarp; lane++) {
    const int g = lane / 4, t = lane % 4;
    auto* d = static_cast<float*>(lanes[lane]->out);
    for (int i = 0; i < 4; i++) {
      const int row = g + 8 * (i / 2), column = 2 * t + i % 2;
      double sum = 0;
      for (int k = 0; k < depth; k++) sum += static_cast<double>(a[row][k]) * b[k][column];
      d[i] = static_cast<float>(sum + d[i]);
    }
  }
}

void load_matrices(bool transposed, Request* const* lanes) {
  for (int m = 0; m < 4; m++) {
    uint16_t matrix[8][8];
    for (int r = 0; r < 8; r++) std::memcpy(matrix[r], lanes[8 * m + r]->in[0], 16);
    for (int lane = 0; lane < kWarp; lane++) {
      const int g = lane / 4, t = lane % 4;
      const uint16_t low = transposed ? matrix[2 * t][g] : matrix[g][2 * t];
      const uint16_t high = transposed ? matrix[2 * t + 1][g] : matrix[g][2 * t + 1];
      static_cast<uint32_t*>(lanes[lane]->out)[m] = static_cast<uint32_t>(high) << 16 | low;
    }
  }
}

}  // namespace simt
