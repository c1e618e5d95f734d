#pragma once
// What recorded work reads that it has not written itself, and what it overwrites: a replay depends
// on the former, and the latter depends on the replay.

#include <memory>
#include <vector>

#include "device/outcome.h"

namespace ml {

class Storage;

class Trace {
 public:
  // Bytes begin … end - 1, in the order of the work
  void read(Storage& storage, int64_t begin, int64_t end);
  void overwrite(Storage& storage, int64_t begin, int64_t end);

  // Of a replay; the memory of storages that are gone is used by nothing else.
  Needs needs() const;
  void reserve() const;
  void overwrite(const OutcomePtr& outcome) const;

 private:
  struct Range {
    std::weak_ptr<Storage> storage;
    int64_t begin, end;
  };
  std::vector<Range> read_, overwritten_;
};

}  // namespace ml
