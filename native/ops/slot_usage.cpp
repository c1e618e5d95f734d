#include "ops/slot_usage.h"

#include <algorithm>
#include <cmath>

#include "cpu/index_check.h"

namespace ml::cpu {

// One thread: some hundred thousand additions to memory that is mostly in L2 or L3, less work than
// it would be to share it out. It takes 0.4 % of a layer's step, so that every forward is counted,
// whether usage() is asked for or not.
void count_reads(KernelContext& ctx, const CountReads& a) {
  const int64_t slot_count = a.counts.size(), n = a.indices.size();
  if (a.batches) validate_indices(ctx, "SlotCounter.add", "indices", a.indices, slot_count);
  auto *counts = a.counts.as<uint32_t>(), *batches = a.batches.as<uint32_t>();
  auto* marks = a.marks.as<uint64_t>();
  auto* touched = a.touched.as<int32_t>();
  const auto* indices = a.indices.as<int32_t>();
  const auto slots = static_cast<uint32_t>(slot_count);
  ReadSums sums = a.sums ? *a.sums.as<ReadSums>() : ReadSums{};
  for (int64_t i = 0; i < n; ++i) {
    const auto slot = static_cast<uint32_t>(indices[i]);
    if (slot >= slots) continue;
    const bool first = counts[slot]++ == 0;
    if (!batches) continue;
    ++sums.entries;
    if (first) touched[sums.slots++] = indices[i];
    if (marks[slot] == batch_mark(a)) continue;
    marks[slot] = batch_mark(a);
    ++batches[slot];
  }
  if (!batches) return;
  ++*a.total.as<uint32_t>();
  *a.sums.as<ReadSums>() = sums;
}

void list_reads(KernelContext&, const ListReads& a) {
  const auto* counts = a.counts.as<uint32_t>();
  auto* touched = a.touched.as<int32_t>();
  const int64_t n = a.counts.size();
  ReadSums sums{};
  for (int64_t i = 0; i < n; ++i) {
    if (counts[i] == 0) continue;
    touched[sums.slots++] = static_cast<int32_t>(i);
    sums.entries += counts[i];
  }
  *a.sums.as<ReadSums>() = sums;
}

void slot_usage(KernelContext& ctx, const SlotUsage& a) {
  auto* counts = a.counts.as<uint32_t>();
  const int64_t n = a.counts.size();
  const int64_t chunks = (n + kUsageChunk - 1) / kUsageChunk;
  auto* partials = ctx.scratch<SlotStatistics>(chunks);
  ctx.parallel_for(n, kUsageChunk, [&](int64_t begin, int64_t end, int) {
    SlotStatistics s{};
    for (int64_t i = begin; i < end; ++i) {
      if (counts[i] == 0) continue;
      const uint32_t count = counts[i] & ~kReadBefore;
      counts[i] = kReadBefore;
      s.ever += 1;
      if (count == 0) continue;
      s.reads += count;
      s.slots += 1;
      s.logs += count * std::log(static_cast<double>(count));
    }
    partials[begin / kUsageChunk] = s;
  });
  SlotStatistics total{};
  for (int64_t c = 0; c < chunks; ++c) {
    total.reads += partials[c].reads;
    total.slots += partials[c].slots;
    total.ever += partials[c].ever;
    total.logs += partials[c].logs;
  }
  *a.stats.as<SlotStatistics>() = total;
}

}  // namespace ml::cpu
