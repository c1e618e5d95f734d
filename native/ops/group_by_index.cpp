#include "ops/group_by_index.h"

#include <algorithm>

#include "cpu/context.h"
#include "cpu/tuning.h"
#include "ops/sparse_grad.h"

namespace ml::cpu {

void sort_rows(KernelContext& ctx, const SortRows& a);  // ops/sort_rows.cpp

void group_by_index(KernelContext& ctx, const GroupByIndex& a) {
  const int64_t entries = a.indices.size(), capacity = std::min(entries, a.groups);
  auto *order = a.order.as<int32_t>(), *bags = a.bags.as<int32_t>(),
       *positions = a.positions.as<int32_t>(), *offsets = a.offsets.as<int32_t>();
  int32_t* rows = ctx.scratch<int32_t>(capacity);
  int32_t* starts = ctx.scratch<int32_t>(capacity + 1);
  int32_t chosen = 0;  // groups that have an entry
  sort_rows(ctx, {.rows = {.data = rows},
                  .starts = {.data = starts},
                  .order = {.data = order},
                  .count = {.data = &chosen},
                  .reads = {{.indices = a.indices, .weights = {}, .dy = {}, .offsets = {}}},
                  .slots = a.groups,
                  .op = "groupByIndex"});
  int64_t next = 0;
  for (int32_t r = 0; r < chosen; ++r)
    for (; next <= rows[r]; ++next) offsets[next] = starts[r];
  const int32_t grouped = starts[chosen];
  for (; next <= a.groups; ++next) offsets[next] = grouped;

  const int64_t L = a.indices.dim(1);
  const int32_t* indices = a.indices.as<int32_t>();
  ctx.parallel_for(entries, kElementwiseGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      if (indices[i] < 0) positions[i] = -1;
      if (i >= grouped) {
        order[i] = bags[i] = -1;
        continue;
      }
      bags[i] = static_cast<int32_t>(order[i] / L);
      positions[order[i]] = static_cast<int32_t>(i);
    }
  });
}

}  // namespace ml::cpu
