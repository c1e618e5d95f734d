#include "matrix.h"

#include <cmath>
#include <cstring>

#include "core/half.h"
#include "simt/control.h"

namespace simt {
namespace {

constexpr int kRows = 16, kColumns = 8, kDepth = 16;

float element(Kind kind, uint32_t reg, int which) {
  const uint16_t bits = static_cast<uint16_t>(which ? reg >> 16 : reg);
  return kind == Kind::mma_half ? ml::to_float(ml::Half{bits}) : ml::to_float(ml::BFloat16{bits});
}

// d + the sum of a[k] * b[k], in float64 and rounded once: the order of the additions does not
// matter.
float rounded_sum(float d, const float* a, const float (*b)[kColumns], int column) {
  double sum = 0;
  for (int k = 0; k < kDepth; k++) sum += static_cast<double>(a[k]) * b[k][column];
  return static_cast<float>(sum + d);
}

// The same as the least exact tensor cores have it: all terms are cut off at 24 bits of the largest
// one, and the sum of these is cut off at float32 (Fasi, Higham, Mikaitis and Pranesh 2021,
// "Numerical behavior of NVIDIA tensor cores", sections 3.2 to 3.4).
float truncated_sum(float d, const float* a, const float (*b)[kColumns], int column) {
  double terms[kDepth + 1] = {d}, largest = std::fabs(d);
  for (int k = 0; k < kDepth; k++) {
    terms[k + 1] = static_cast<double>(a[k]) * b[k][column];
    largest = std::fmax(largest, std::fabs(terms[k + 1]));
  }
  const float rounded = rounded_sum(d, a, b, column);
  if (largest == 0 || !std::isfinite(rounded)) return rounded;
  const double unit = std::ldexp(1.0, std::ilogb(largest) - 23);
  double sum = 0;
  for (const double term : terms) sum += std::trunc(term / unit) * unit;
  const float nearest = static_cast<float>(sum);
  return std::fabs(nearest) > std::fabs(sum) ? std::nextafterf(nearest, 0) : nearest;
}

}  // namespace

void multiply(Kind kind, Request* const* lanes) {
  float a[kRows][kDepth], b[kDepth][kColumns];
  for (int lane = 0; lane < kWarp; lane++) {
    const int g = lane / 4, t = lane % 4;
    const auto* ra = static_cast<const uint32_t*>(lanes[lane]->in[0]);
    const auto* rb = static_cast<const uint32_t*>(lanes[lane]->in[1]);
    for (int i = 0; i < 4; i++)
      for (int e = 0; e < 2; e++)
        a[g + 8 * (i % 2)][2 * t + e + 8 * (i / 2)] = element(kind, ra[i], e);
    for (int i = 0; i < 2; i++)
      for (int e = 0; e < 2; e++) b[2 * t + e + 8 * i][g] = element(kind, rb[i], e);
  }
  const bool truncating = settings().truncating_mma;
  for (int lane = 0; lane < kWarp; lane++) {
    const int g = lane / 4, t = lane % 4;
    auto* d = static_cast<float*>(lanes[lane]->out);
    for (int i = 0; i < 4; i++) {
      const int row = g + 8 * (i / 2), column = 2 * t + i % 2;
      d[i] = (truncating ? truncated_sum : rounded_sum)(d[i], a[row], b, column);
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
