#pragma once
// How a reduction is cut into tasks on the CPU. The cut depends on the shape alone, and so do the
// bits of a sum.

#include "cpu/tuning.h"
#include "ops/reduce.h"

namespace ml::cpu {

// A part of the reduced elements of neighbouring outputs.
struct ReduceTask {
  int64_t output, outputs;  // the first, and how many
  int64_t offset;           // of x, where the first output's elements begin
  int64_t begin, end;       // of the reduced elements
};

// Task u is part u % parts of group u / parts. A group is one output along rows, else up to
// kReduceColumns columns.
struct ReduceTasks {
  int64_t columns, column_groups, groups, parts, part;

  explicit ReduceTasks(const Reduction& r) {
    columns = r.along_rows ? 1 : r.kept.size[r.kept.rank - 1];
    column_groups = (columns + kReduceColumns - 1) / kReduceColumns;
    groups = r.outputs / columns * column_groups;
    const int64_t width = columns < kReduceColumns ? columns : kReduceColumns,
                  wanted = r.count * width / kRowGrain;
    parts = groups >= kMaxReduceParts ? 1 : (wanted < kMaxReduceParts ? wanted : kMaxReduceParts);
    if (parts < 1) parts = 1;
    part = (r.count + parts - 1) / parts;
  }
  int64_t count() const { return groups * parts; }
  // Tasks that are worth a hand-over between threads.
  int64_t grain() const {
    const int64_t elements = part * (columns < kReduceColumns ? columns : kReduceColumns);
    return elements >= kRowGrain ? 1 : kRowGrain / (elements < 1 ? 1 : elements);
  }
  ReduceTask task(const Reduction& r, int64_t u) const {
    const int64_t group = u / parts, first = u % parts * part,
                  column = group % column_groups * kReduceColumns,
                  output = group / column_groups * columns + column, left = columns - column;
    return {.output = output,
            .outputs = left < kReduceColumns ? left : kReduceColumns,
            .offset = r.kept.offset(0, output),
            .begin = first < r.count ? first : r.count,
            .end = first + part < r.count ? first + part : r.count};
  }
};

}  // namespace ml::cpu
