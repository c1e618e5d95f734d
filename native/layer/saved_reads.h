#pragma once
// The tensors of others that a backward is going to read, as its forward found them: the caller's
// input, and parameters. Another gradient would come of what was written to them meanwhile.

#include <array>
#include <string>

#include "layer/parameter.h"

namespace ml {

class SavedReads {
 public:
  // `name` lives as long as the layer, and the memory of `t` until check().
  void add(const char* name, const Tensor& t) {
    const Storage& s = *t.storage;
    reads_[static_cast<size_t>(size_++)] = {name, &s, s.writes.count(), t.offset,
                                            t.offset + t.bytes()};
  }
  void add(const Parameter& p) {
    if (p) add(p.name.c_str(), p.value);
  }

  // ERR_CONTEXT if one was written since.
  void check(const char* where) const {
    for (const Read& r : reads_) {
      if (!r.storage || !r.storage->writes.touched(r.count, r.begin, r.end)) continue;
      throw Error(Code::context, std::string(where) + ": \"" + r.name + written_since_forward());
    }
  }

  static std::string written_since_forward() {
    return "\" was written since the forward of this context, which would make other gradients.\n  "
           "Run backward before it is written (by write, copyFrom, an output, step or "
           "loadStateDict), or run forward again.";
  }

 private:
  struct Read {
    const char* name = nullptr;
    const Storage* storage = nullptr;
    uint64_t count = 0;
    int64_t begin = 0, end = 0;  // bytes
  };
  std::array<Read, 9> reads_;
  int size_ = 0;
};

// Tells the layers of a process apart, also those at one address after another.
uint64_t new_layer_id();

}  // namespace ml
