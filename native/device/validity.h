#pragma once
// Which bytes of a storage depend on work that is not known to have passed. Only the caller's
// thread uses it. A view of those bytes is void if that work turns out to be void; bytes that are
// overwritten depend on the work that overwrites them and on nothing else.

#include <algorithm>
#include <cstddef>
#include <vector>

#include "device/outcome.h"

namespace ml {

class Validity {
 public:
  // Appends what bytes begin … end - 1 depend on, unless it has passed.
  void collect(int64_t begin, int64_t end, Needs& needs);

  // f(begin, end, outcome) for the parts of bytes begin … end - 1, ascending; without an outcome
  // where nothing has overwritten them.
  template <class F>
  void each(int64_t begin, int64_t end, const F& f) const {
    const auto visit = [&](const Part& p) {
      const int64_t from = std::max(p.begin, begin), to = std::min(p.end, end);
      if (from >= to) return;
      if (begin < from) f(begin, from, OutcomePtr{});
      f(from, to, p.outcome);
      begin = to;
    };
    if (single_.outcome) visit(single_);
    for (const Part& p : parts_) visit(p);
    if (begin < end) f(begin, end, OutcomePtr{});
  }

  // As many overwrite()s allocate nothing after this, so that they can follow work without failing:
  // those of one operation, where nothing is said. An overwrite() of the whole storage never does.
  void reserve(size_t overwrites = kOutputs) {
    const size_t more = 2 * overwrites + 1;  // each may split a part; and the single part
    if (parts_.capacity() < parts_.size() + more) grow(more);
  }
  // Bytes begin … end - 1 depend on `outcome` alone.
  void overwrite(int64_t begin, int64_t end, const OutcomePtr& outcome);

 private:
  struct Part {
    int64_t begin, end;
    OutcomePtr outcome;
  };
  static constexpr size_t kOutputs = 4;  // of an operation, in one storage
  void grow(size_t more);

  // Most often there is a single part, of the whole storage, which needs no memory of its own; else
  // it has no outcome, and the parts are a list: apart from each other, ascending.
  Part single_{};
  std::vector<Part> parts_;
};

}  // namespace ml
