// The gradient of one touched row: an ordered sum over its places. Included inside an instruction-set pass, like simd.h.

#include "cpu/prefetch.h"
#include "cpu/read_places.h"

namespace ml::cpu::ML_ISA {
namespace {

constexpr int kPlaces = 4;  // taken at a time: the sums lie in the first cache

// g += weight * dy for the places of a group one after another; `first`: g is not read. The lines of `coming` are prefetched.
template <int places, bool first>
inline void add_places(const ReadPlaces::Place* p, const float* const* coming, int64_t V, float* g) {
  constexpr int kStep = kLine / static_cast<int>(sizeof(float));
  Vec w[places];
  for (int i = 0; i < places; ++i) w[i] = set1(p[i].weight);
  int64_t c = 0;
  for (; c + kStep <= V; c += kStep) {
    for (int i = 0; i < places; ++i) prefetch_line(coming[i] + c);
    for (int64_t v = c; v < c + kStep; v += kWidth) {
      Vec sum = first ? w[0] * load(p[0].dy + v) : load(g + v);
      for (int i = first; i < places; ++i) sum = fma(w[i], load(p[i].dy + v), sum);
      store(g + v, sum);
    }
  }
  for (; c < V; c += kWidth) {
    const int n = V - c < kWidth ? static_cast<int>(V - c) : kWidth;
    Vec sum = first ? w[0] * load_n(p[0].dy + c, n) : load_n(g + c, n);
    for (int i = first; i < places; ++i) sum = fma(w[i], load_n(p[i].dy + c, n), sum);
    store_n(g + c, sum, n);
  }
}

template <bool first>
inline void add_group(int count, const ReadPlaces::Place* p, const float* const* coming, int64_t V, float* g) {
  switch (count) {
    case 1: return add_places<1, first>(p, coming, V, g);
    case 2: return add_places<2, first>(p, coming, V, g);
    case 3: return add_places<3, first>(p, coming, V, g);
    default: return add_places<4, first>(p, coming, V, g);
  }
}

// g[0 … width) = sum over order[begin … end) of weight * dy
[[maybe_unused]] inline void sum_places(const ReadPlaces& places, const int32_t* order, int64_t begin, int64_t end, float* g) {
  if (end - begin == 1) {  // most rows of a large table
    const ReadPlaces::Place p = places.at(order[begin]);
    const Vec w = set1(p.weight);
    for_vectors(places.width, [&](int64_t c, int n) { store_n(g + c, w * load_n(p.dy + c, n), n); });
    return;
  }
  ReadPlaces::Place now[kPlaces], next[kPlaces];
  const float* coming[kPlaces];
  const auto take = [&](ReadPlaces::Place* into, int64_t from) {
    const int count = end - from < kPlaces ? static_cast<int>(end - from) : kPlaces;
    for (int i = 0; i < count; ++i) into[i] = places.at(order[from + i]);
    return count;
  };
  int count = take(now, begin);
  for (int64_t i = begin; i < end; i += kPlaces) {
    const int more = take(next, i + kPlaces < end ? i + kPlaces : end);
    for (int k = 0; k < count; ++k) coming[k] = k < more ? next[k].dy : now[k].dy;
    i == begin ? add_group<true>(count, now, coming, places.width, g) : add_group<false>(count, now, coming, places.width, g);
    for (int k = 0; k < more; ++k) now[k] = next[k];
    count = more;
  }
}

}  // namespace
}  // namespace ml::cpu::ML_ISA
