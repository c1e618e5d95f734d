#pragma once
// The operands of one call, as memory. What an operation writes shares no memory with what it reads
// or with another output, except an output that is exactly an input whose kernel allows it
// (kInPlace). Found by addresses, for every operation alike, before it runs.

#include <array>
#include <span>
#include <vector>

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

struct Operand {
  // result: an output that is updated while it is in the making
  enum class Kind : uint8_t { read, read_in_place, overwritten, updated, result };

  bool written() const { return kind >= Kind::overwritten; }

  const char* name = nullptr;
  Storage* storage = nullptr;
  Memory memory;
  DType dtype = DType::f32;
  Kind kind = Kind::read;
};
inline Operand operand(const char* name, const View& view, Operand::Kind kind) {
  return {name, view.storage, Memory(view), view.dtype, kind};
}

// The operands of a call that are given, outputs first. `rule`: as for each_output. `results`:
// which of the outputs that are updated are in the making.
template <class Args>
class OperandList {
 public:
  template <class Rule>
  OperandList(const Args& args, const Rule& rule, std::span<const View> results = {}) {
    using Kind = Operand::Kind;
    each_output(args, rule, [&](const char* name, const View& view, Write write) {
      Kind kind = write == Write::updated ? Kind::updated : Kind::overwritten;
      for (const View& result : results)
        if (kind == Kind::updated && result.data == view.data) kind = Kind::result;
      add(name, view, kind);
    });
    each_input(args, [&](const char* name, const View& view, bool in_place) {
      add(name, view, in_place ? Kind::read_in_place : Kind::read);
    });
  }
  std::span<const Operand> all() const {
    return more_.empty() ? std::span(few_.data(), count_) : std::span(more_);
  }

 private:
  void add(const char* name, const View& view, Operand::Kind kind) {
    if (count_ < few_.size()) {
      Operand& o = few_[count_++];
      o.name = name;
      o.storage = view.storage;
      o.memory = Memory(view);
      o.dtype = view.dtype;
      o.kind = kind;
    } else {  // the reads of a table
      add_more(operand(name, view, kind));
    }
  }
  [[gnu::noinline]] void add_more(const Operand& o) {
    if (more_.empty()) {
      more_.reserve(2 * few_.size());
      more_.assign(few_.begin(), few_.end());
    }
    more_.push_back(o);
  }

  static constexpr int kTable = requires(const Args& args) { args.reads; } ? 4 : 0;  // one read
  std::array<Operand, count_views<Args>() + kTable> few_;
  size_t count_ = 0;
  std::vector<Operand> more_;
};

// ERR_VALUE where an output overlaps another operand.
void check_overlap(const char* op, std::span<const Operand> operands);

// For what a call reads beside the operands of the operation.
void expect_apart(const char* op, const char* output, const View& written, const char* input,
                  const View& read);

}  // namespace ml
