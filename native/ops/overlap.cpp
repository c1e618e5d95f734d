#include "ops/overlap.h"

#include <string>

namespace ml {
namespace {

constexpr const char* kShareNothing =
    "Leave the output out for a new tensor, or copy one of the two with .to(dtype).";
constexpr const char* kShareAllOrNothing = "They may be the same tensor, or share nothing.";

[[noreturn]] void fail_overlap(const char* op, const char* output, const char* other,
                               const char* hint) {
  fail(Code::value, op, output, "have memory of its own",
       std::string("memory that overlaps \"") + other + "\"", hint);
}

}  // namespace

void check_overlap(const char* op, std::span<const Operand> operands) {
  for (size_t i = 1; i < operands.size(); ++i) {
    const Operand& o = operands[i];
    const bool in_place = o.kind == Operand::Kind::read_in_place;
    for (const Operand& w : operands.first(i)) {
      if (!w.written()) break;
      if (!o.memory.overlaps(w.memory)) continue;
      if (o.written()) fail_overlap(op, o.name, w.name, kShareNothing);
      if (in_place && o.memory == w.memory && o.dtype == w.dtype) continue;
      fail_overlap(op, w.name, o.name, in_place ? kShareAllOrNothing : kShareNothing);
    }
  }
}

void expect_apart(const char* op, const char* output, const View& written, const char* input,
                  const View& read) {
  if (Memory(written).overlaps(Memory(read))) fail_overlap(op, output, input, kShareNothing);
}

}  // namespace ml
