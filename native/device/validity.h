#pragma once
// Which bytes of a storage depend on work that is not known to have passed. Only the caller's
// thread uses it. A view of those bytes is void if that work turns out to be void; bytes that are
// overwritten depend on the work that overwrites them and on nothing else.

#include <cstddef>
#include <vector>

#include "device/outcome.h"

namespace ml {

class Validity {
 public:
  // Appends what bytes begin … end - 1 depend on, unless it has passed.
  void collect(int64_t begin, int64_t end, Needs& needs);

  // The overwrite()s of one piece of work allocate nothing after this, so that they can follow it
  // without failing. An overwrite() of the whole storage never does.
  void reserve() {
    if (parts_.capacity() < parts_.size() + kRoom) grow();
  }
  // Bytes begin … end - 1 depend on `outcome` alone.
  void overwrite(int64_t begin, int64_t end, const OutcomePtr& outcome);

 private:
  struct Part {
    int64_t begin, end;
    OutcomePtr outcome;
  };
  // the single part, and four outputs, each of which may split a part
  static constexpr size_t kRoom = 9;
  void grow();

  // Most often there is a single part, of the whole storage, which needs no memory of its own; else
  // it has no outcome, and the parts are a list: apart from each other, ascending.
  Part single_{};
  std::vector<Part> parts_;
};

}  // namespace ml
