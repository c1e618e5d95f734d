#include <algorithm>
#include <cstring>

#include "cpu/context.h"
#include "cpu/tuning.h"
#include "ops/hot_rows_cpu.h"

namespace ml::cpu {
namespace {

// Whether one of the rows is hot: without a branch for each.
bool any_hot(const int32_t* starts, int64_t begin, int64_t end) {
  int32_t hot = 0;
  for (int64_t r = begin; r < end; ++r)
    hot |= starts[r + 1] - starts[r] > static_cast<int32_t>(kHotEntries);
  return hot;
}

}  // namespace

HotRows::HotRows(KernelContext& ctx, const RowEntries& entries, int64_t R, SumEntries sum)
    : entries_(entries), sum_(sum) {
  const int32_t* starts = entries.starts;
  struct Chunk {
    int64_t begin, end;
  };
  const int64_t max_hot = starts[R] / kHotEntries;  // of hot rows, and of their shorter chunks
  HotRow* hot = ctx.scratch<HotRow>(max_hot);
  Chunk* chunks = ctx.scratch<Chunk>(2 * max_hot);
  int64_t count = 0;
  for (int64_t first = 0; first < R; first += kHotScanRows) {
    const int64_t last = std::min(R, first + kHotScanRows);
    if (!any_hot(starts, first, last)) continue;
    for (int64_t r = first; r < last; ++r) {
      if (starts[r + 1] - starts[r] <= kHotEntries) continue;
      hot[hot_count_++] = {.row = r, .first_partial = count};
      for (int64_t i = starts[r]; i < starts[r + 1]; i += kHotEntries)
        chunks[count++] = {i, std::min<int64_t>(starts[r + 1], i + kHotEntries)};
    }
  }
  float* partials = ctx.scratch<float>(count * entries.width);
  ctx.parallel_for(count, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t c = begin; c < end; ++c)
      sum(entries, chunks[c].begin, chunks[c].end, partials + c * entries.width);
  });
  hot_ = hot;
  partials_ = partials;
}

void HotRows::gradient(int64_t r, float* g) const {
  const int64_t begin = entries_.starts[r], end = entries_.starts[r + 1];
  if (end - begin <= kHotEntries) return sum_(entries_, begin, end, g);
  const int64_t V = entries_.width;
  const HotRow* hot = std::lower_bound(hot_, hot_ + hot_count_, r,
                                       [](const HotRow& h, int64_t row) { return h.row < row; });
  const float* partial = partials_ + hot->first_partial * V;
  std::memcpy(g, partial, static_cast<size_t>(V) * sizeof(float));
  const int64_t chunks = (end - begin + kHotEntries - 1) / kHotEntries;
  for (int64_t k = 1; k < chunks; ++k)
    for (int64_t c = 0; c < V; ++c) g[c] += partial[k * V + c];
}

}  // namespace ml::cpu
