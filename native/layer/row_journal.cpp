#include "layer/row_journal.h"

#include <algorithm>
#include <new>
#include <numeric>
#include <utility>
#include <vector>

#include "layer/run.h"

namespace ml {
namespace {

Tensor first_rows(Tensor t, int64_t rows) {
  t.shape.dims[0] = rows;
  return t;
}

// A larger one with the rows of `old`, if there are any. All of it is written: how many rows count
// is not known here, and what is copied when it grows again has to be.
Tensor grown(const Tensor& old, Device& device, const Shape& shape, DType dtype) {
  const Tensor t = zeros(device, shape, dtype);
  if (old) run(device, Copy{.out = first_rows(t, old.shape[0]).view(), .in = old.view()});
  return t;
}

}  // namespace

RowJournal::RowJournal(const Tensor& table) : table_(table), slots_(table.shape[0]) {
  Storage& storage = *table.storage;
  if (table.dtype == DType::i8 || storage.read_only())
    throw Error(
        Code::unsupported,
        "ValueTable.track: an int8 table and one that is mapped from a file are read only.");
  Device& device = table.device();
  Batch::bypass(device, [&] {
    if (auto exact = new_exact_rows(table)) storage.exact = std::move(exact);
    marks_ = zeros(device, {slots_}, DType::u8);
    count_ = zeros(device, {1}, DType::i32);
  });
  watch_ = storage.writes.watch(this);
}

RowJournal::~RowJournal() { table_.storage->writes.end_watch(watch_); }

int64_t RowJournal::most(int64_t more) const {
  return std::min(slots_, known_.count + added_ - known_.added + more);
}

void RowJournal::reserve(int64_t rows) {
  const int64_t wanted = most(rows), capacity = rows_ ? rows_.size() : 0;
  if (wanted <= capacity) return;
  const int64_t next = std::min(slots_, wanted + wanted / 2);
  Device& device = table_.device();
  const Tensor exact = exact_rows(table_);
  Batch::bypass(device, [&] {
    const Tensor grown_rows = grown(rows_, device, {next}, DType::i32);
    const Tensor grown_bits = grown(bits_, device, {next, row_bytes(table_.view())}, DType::u8);
    if (exact.storage)
      exact_bits_ = grown(exact_bits_, device, {next, row_bytes(exact.view())}, DType::u8);
    rows_ = grown_rows;
    bits_ = grown_bits;
  });
}

const Tensor& RowJournal::rows() const {
  if (lost_)
    throw Error(Code::out_of_memory,
                "ValueTable.diff: rows were written, and there was no memory to keep them.");
  return rows_;
}

void RowJournal::keep(const Rows& written) {
  const int64_t count = written.rows.size();
  reserve(count);
  if (count == 0) return;
  Device& device = table_.device();
  run(device, JournalRows{.marks = marks_.view(),
                          .journal_rows = rows_.view(),
                          .journal_count = count_.view(),
                          .journal_bits = bits_.view(),
                          .journal_exact = exact_bits_.view(),
                          .table = table_.view(),
                          .exact = exact_rows(table_).view(),
                          .rows = written.rows.view(),
                          .row_count = written.count.view()});
  added_ += count;
}

void RowJournal::before_write(int64_t begin, int64_t end) {
  const int64_t bytes = row_bytes(table_.view());
  const int64_t first = std::max<int64_t>(0, (begin - table_.offset) / bytes),
                last = std::min(slots_, (end - table_.offset + bytes - 1) / bytes);
  if (first >= last) return;
  try {
    Batch::bypass(table_.device(), [&] {  // a write that is not kept in a batch comes now
      if (expected_) return keep(*std::exchange(expected_, std::nullopt));
      std::vector<int32_t> rows(static_cast<size_t>(last - first));
      std::iota(rows.begin(), rows.end(), static_cast<int32_t>(first));
      const Tensor all = empty(table_.device(), {last - first}, DType::i32);
      write(all.view(), rows.data(), true);
      keep({all, {}});
    });
  } catch (const Error&) {  // the write goes on
    lost_ = true;
  } catch (const std::bad_alloc&) {
    lost_ = true;
  }
}

}  // namespace ml
