#pragma once
// What an operation writes shares no memory with what it reads or with another output, except an
// output that is exactly an input whose kernel allows it (kInPlace). Found by addresses, for every
// operation alike, before it runs.

#include "ops/operands.h"

namespace ml {

// The bytes of a view. Views that are not given, or without elements, overlap nothing.
struct Memory {
  uintptr_t begin = 0, end = 0;

  Memory() = default;
  explicit Memory(const View& v) {
    const int64_t bytes = v ? v.bytes() : 0;
    if (bytes == 0) return;
    begin = reinterpret_cast<uintptr_t>(v.data);
    end = begin + static_cast<uintptr_t>(bytes);
  }
  bool overlaps(const Memory& o) const { return begin < o.end && o.begin < end; }
  bool operator==(const Memory&) const = default;
};

[[noreturn]] inline void fail_overlap(const char* op, const char* output, const char* other,
                                      const char* hint) {
  fail(Code::value, op, output, "have memory of its own",
       std::string("memory that overlaps \"") + other + "\"", hint);
}
inline constexpr const char* kShareNothing =
    "Leave the output out for a new tensor, or copy one of the two with .to(dtype).";
inline constexpr const char* kShareAllOrNothing = "They may be the same tensor, or share nothing.";

// For what a call reads beside the operands of the operation.
inline void expect_apart(const char* op, const char* output, const View& written, const char* input,
                         const View& read) {
  if (Memory(written).overlaps(Memory(read))) fail_overlap(op, output, input, kShareNothing);
}

template <class Args, class Rule>
void check_overlap(const char* op, const Args& args, const Rule& rule) {
  struct Written {
    const char* name;
    DType dtype;
    Memory memory;
  };
  Written written[count_views<Args>()];
  int count = 0;
  each_output(args, rule, [&](const char* name, const View& view, Write) {
    const Memory memory(view);
    for (int i = 0; i < count; ++i)
      if (memory.overlaps(written[i].memory))
        fail_overlap(op, name, written[i].name, kShareNothing);
    written[count++] = {name, view.dtype, memory};
  });
  each_input(args, [&](const char* name, const View& view, bool in_place) {
    const Memory memory(view);
    for (int i = 0; i < count; ++i) {
      const Written& w = written[i];
      if (!memory.overlaps(w.memory)) continue;
      if (in_place && memory == w.memory && view.dtype == w.dtype) continue;
      fail_overlap(op, w.name, name, in_place ? kShareAllOrNothing : kShareNothing);
    }
  });
}

}  // namespace ml
