#include "cpu/hot_rows.h"

#include <algorithm>
#include <cstring>

namespace ml::cpu {

HotRows::HotRows(Context& ctx, const ReadPlaces& places, const int32_t* starts, const int32_t* order, int64_t R, SumPlaces sum)
    : places_(places), starts_(starts), order_(order), sum_(sum) {
  struct Chunk {
    int64_t begin, end;
  };
  int64_t count = 0;
  for (int64_t r = 0; r < R; ++r) {
    const int64_t length = starts[r + 1] - starts[r];
    if (length > kHotPlaces) count += (length + kHotPlaces - 1) / kHotPlaces;
  }
  if (count == 0) return;
  Chunk* chunks = ctx.scratch<Chunk>(count);
  int32_t* first = ctx.scratch<int32_t>(R);
  float* partials = ctx.scratch<float>(count * places.width);
  int64_t at = 0;
  for (int64_t r = 0; r < R; ++r) {
    first[r] = -1;
    if (starts[r + 1] - starts[r] <= kHotPlaces) continue;
    first[r] = static_cast<int32_t>(at);
    for (int64_t i = starts[r]; i < starts[r + 1]; i += kHotPlaces)
      chunks[at++] = {i, std::min<int64_t>(starts[r + 1], i + kHotPlaces)};
  }
  ctx.parallel_for(count, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t c = begin; c < end; ++c) sum(places, order, chunks[c].begin, chunks[c].end, partials + c * places.width);
  });
  first_ = first;
  partials_ = partials;
}

void HotRows::gradient(int64_t r, float* g) const {
  if (!first_ || first_[r] < 0) return sum_(places_, order_, starts_[r], starts_[r + 1], g);
  const int64_t V = places_.width;
  const float* partial = partials_ + first_[r] * V;
  std::memcpy(g, partial, static_cast<size_t>(V) * sizeof(float));
  const int64_t chunks = (starts_[r + 1] - starts_[r] + kHotPlaces - 1) / kHotPlaces;
  for (int64_t k = 1; k < chunks; ++k)
    for (int64_t c = 0; c < V; ++c) g[c] += partial[k * V + c];
}

}  // namespace ml::cpu
