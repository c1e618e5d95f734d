#include "ops/journal_rows.h"

#include <algorithm>
#include <cstring>

#include "cpu/context.h"
#include "cpu/tuning.h"

namespace ml::cpu {

// One thread finds the new rows, which is little beside copying them.
void journal_rows(KernelContext& ctx, const JournalRows& a) {
  const int64_t R = a.row_count ? *a.row_count.as<int32_t>() : a.rows.size();
  const auto* rows = a.rows.as<int32_t>();
  auto* marks = a.marks.as<uint8_t>();
  auto* journal = a.journal_rows.as<int32_t>();
  auto* count = a.journal_count.as<int32_t>();
  const int64_t first = *count;
  int64_t last = first;
  for (int64_t r = 0; r < R; ++r) {
    if (marks[rows[r]]) continue;
    marks[rows[r]] = 1;
    journal[last++] = rows[r];
  }
  *count = static_cast<int32_t>(last);
  const int64_t bytes = row_bytes(a.table), exact_bytes = a.exact ? row_bytes(a.exact) : 0;
  const int64_t grain = std::max<int64_t>(1, kCopyGrain / std::max<int64_t>(bytes, 1));
  const auto keep = [](const View& bits, const View& table, int64_t at, int64_t row, int64_t n) {
    std::memcpy(bits.as<char>() + at * n, table.as<char>() + row * n, static_cast<size_t>(n));
  };
  ctx.parallel_for(last - first, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t at = first + begin; at < first + end; ++at) {
      keep(a.journal_bits, a.table, at, journal[at], bytes);
      if (a.exact) keep(a.journal_exact, a.exact, at, journal[at], exact_bytes);
    }
  });
}

}  // namespace ml::cpu
