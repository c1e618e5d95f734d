#pragma once
// The rows of a table that were written since the journal was made, as they were before
// (ops/journal_rows.h). Whatever writes to the table is seen before it is enqueued: an update or a
// patch says which rows it writes, anything else writes those that its bytes lie in.
//
// The journal grows with the rows in it. How many that are is known on the device; the host counts
// those that were written at most, and is told now and then.

#include <optional>

#include "device/device.h"

namespace ml {

class RowJournal final : private WriteWatcher {
 public:
  // Of a float table; one of 16 bits gets its exact values (layer/exact_rows.h), if it has none.
  explicit RowJournal(const Tensor& table);
  ~RowJournal();
  RowJournal(const RowJournal&) = delete;
  RowJournal& operator=(const RowJournal&) = delete;

  // The next write is of the first `count` [1] of `rows`, int32 and distinct, or without a count of
  // all of them.
  void expect(const Tensor& rows, const Tensor& count) { expected_ = Rows{rows, count}; }
  // Makes memory for so many rows more.
  void reserve(int64_t rows);

  // [C], [C, B], [C, E] and [1] of ops/journal_rows.h; those of C rows are empty while nothing has
  // been reserved. Throw ERR_OUT_OF_MEMORY where rows could not be kept.
  const Tensor& rows() const;
  const Tensor& bits() const { return bits_; }
  const Tensor& exact_bits() const { return exact_bits_; }
  const Tensor& count() const { return count_; }
  // Rows that were written, one by one, however often the same.
  int64_t added() const { return added_; }
  // The count was `count` when added() was `added`.
  void know(int64_t count, int64_t added) { known_ = {count, added}; }

 private:
  struct Rows {
    Tensor rows, count;
  };
  struct Known {
    int64_t count = 0, added = 0;
  };
  void before_write(int64_t begin, int64_t end) override;
  void keep(const Rows& written);
  int64_t most(int64_t more) const;

  const Tensor table_;
  const int64_t slots_;
  Tensor marks_, rows_, bits_, exact_bits_, count_;
  int64_t added_ = 0;
  Known known_;
  std::optional<Rows> expected_;
  bool lost_ = false;
  WriteLog::Watch watch_;
};

}  // namespace ml
