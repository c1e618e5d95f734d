// The gradient of one touched row: an ordered sum over its places. Included inside an instruction-set pass, like simd.h.

#include "cpu/read_places.h"

namespace ml::cpu::ML_ISA {
namespace {

constexpr int kRowVectors = 8;

// g[0 … width) = sum over order[begin … end) of weight * dy
[[maybe_unused]] inline void sum_places(const ReadPlaces& places, const int32_t* order, int64_t begin, int64_t end, float* g) {
  const int64_t V = places.width;
  if (end - begin == 1) {  // most rows of a large table
    const auto p = places.at(order[begin]);
    const Vec w = set1(p.weight);
    int64_t c = 0;
    for (; c + kWidth <= V; c += kWidth) store(g + c, w * load(p.dy + c));
    for (; c < V; ++c) g[c] = p.weight * p.dy[c];
    return;
  }
  int64_t c = 0;
  for (; c + kRowVectors * kWidth <= V; c += kRowVectors * kWidth) {
    Vec acc[kRowVectors] = {};
    for (int64_t i = begin; i < end; ++i) {
      const auto p = places.at(order[i]);
      const Vec w = set1(p.weight);
      for (int v = 0; v < kRowVectors; ++v) acc[v] = fma(w, load(p.dy + c + v * kWidth), acc[v]);
    }
    for (int v = 0; v < kRowVectors; ++v) store(g + c + v * kWidth, acc[v]);
  }
  for (; c < V; c += kWidth) {
    const int n = V - c < kWidth ? static_cast<int>(V - c) : kWidth;
    Vec acc{};
    for (int64_t i = begin; i < end; ++i) {
      const auto p = places.at(order[i]);
      acc = fma(set1(p.weight), n == kWidth ? load(p.dy + c) : load_partial(p.dy + c, n), acc);
    }
    n == kWidth ? store(g + c, acc) : store_partial(g + c, acc, n);
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
