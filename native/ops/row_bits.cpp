#include "ops/row_bits.h"

#include <algorithm>
#include <cstring>

#include "cpu/index_check.h"
#include "cpu/tuning.h"

namespace ml::cpu {
namespace {

// copy(row of the table, row of the bits, their bytes) for all rows that are given
template <class Copy>
void for_rows(KernelContext& ctx, const View& table, const View& rows, const View& bits,
              const Copy& copy) {
  const int64_t bytes = row_bytes(table);
  const auto* indices = rows.as<int32_t>();
  ctx.parallel_for(rows.size(), std::max<int64_t>(1, kCopyGrain / std::max<int64_t>(bytes, 1)),
                   [&](int64_t begin, int64_t end, int) {
                     for (int64_t r = begin; r < end; ++r)
                       if (indices[r] >= 0)
                         copy(table.as<char>() + indices[r] * bytes, bits.as<char>() + r * bytes,
                              static_cast<size_t>(bytes));
                   });
}

void write_to(KernelContext& ctx, const View& table, const View& rows, const View& bits) {
  for_rows(ctx, table, rows, bits,
           [](char* row, const char* from, size_t n) { std::memcpy(row, from, n); });
}

}  // namespace

void read_rows(KernelContext& ctx, const ReadRows& a) {
  validate_indices(ctx, "readRows", "rows", a.rows, a.table.dim(0));
  for_rows(ctx, a.table, a.rows, a.bits,
           [](const char* row, char* to, size_t n) { std::memcpy(to, row, n); });
}

void write_rows(KernelContext& ctx, const WriteRows& a) {
  validate_indices(ctx, "writeRows", "rows", a.rows, a.table.dim(0));
  write_to(ctx, a.table, a.rows, a.bits);
  if (a.exact) write_to(ctx, a.exact, a.rows, a.exact_bits);
}

}  // namespace ml::cpu
