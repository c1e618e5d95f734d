#pragma once
// The operands of an operation: the views that it reads and those that it writes. Beside each
// argument struct stand
//   inputs(args, input)     input(name, view), or input(name, view, kInPlace)
//   outputs(args)           the shape rule (ops/outputs.h), or where the outputs are all given:
//   outputs(args, output)   output(name, view), or output(name, view, Write::updated)
// with every view of the struct in exactly one of them: a view that is read and written is an
// output that is updated. Names are those of messages. operations.h refuses at compile time an
// operation that leaves one out.
//
// Whoever needs the operands walks them with
//   each_input(args, f)           f(name, view, in_place)   for each input that is given
//   each_output(args, rule, f)    f(name, view, write)      for each output that is given
// where `rule` is shape_rule(args). It checks the arguments, so take it once a call.

#include <type_traits>
#include <vector>

#include "ops/outputs.h"

namespace ml {

// What becomes of an output's old elements. updated: it is added to, or changed in part.
enum class Write : uint8_t { overwritten, updated };

// An output may be exactly this input: the same memory, shape and dtype.
inline constexpr bool kInPlace = true;

// How many slots the indices of an operation choose from.
template <class Args>
int64_t slots_of(const Args& a) {
  if constexpr (requires { a.keys; })
    return a.keys.dim(2) * a.keys.dim(2);  // pairs of half-keys
  else if constexpr (requires { a.table; })
    return a.table.dim(0);
  else if constexpr (requires { a.down; })
    return a.down.dim(0);
  else
    return a.slots;
}

// In place of the shape rule of an operation that has none.
struct NoRule {};

template <class Args>
concept HasRule = requires(const Args& args) { outputs(args); };

// Checks the arguments, but for the outputs that the shape rule says, which check_outputs checks.
template <class Args>
auto shape_rule(const Args& args) {
  if constexpr (HasRule<Args>) {
    return outputs(args);
  } else {
    check(args);
    return NoRule{};
  }
}

template <class Args>
void check_outputs(const Args&, NoRule) {}

template <class Args, class F>
constexpr void each_input(const Args& args, F&& f) {
  inputs(args, [&](const char* name, const View& view, bool in_place = false) {
    if (view) f(name, view, in_place);
  });
}

template <class Args, int count, class F>
void each_output(const Args& args, const Outputs<Args, count>& rule, F&& f) {
  for (const Output<Args>& o : rule.list)
    if (const View& view = args.*o.view)
      f(o.name, view, o.added_to ? Write::updated : Write::overwritten);
}

template <class Args, class F>
constexpr void each_output(const Args& args, NoRule, F&& f) {
  outputs(args, [&](const char* name, const View& view, Write write = Write::overwritten) {
    if (view) f(name, view, write);
  });
}

// Whether each view of an argument struct is listed as an input or as an output. The views are the
// first members of a struct, so that is a matter of counting.
template <class Args, class... Views>
constexpr int count_views() {
  if constexpr (requires { Args{Views{}..., View{}}; })
    return count_views<Args, Views..., View>();
  else
    return sizeof...(Views);
}

template <class Args>
constexpr bool lists_every_view() {
  int listed = 0;
  const auto count = [&](const char*, const View&, auto...) { ++listed; };
  inputs(Args{}, count);
  if constexpr (HasRule<Args>)
    listed += decltype(outputs(std::declval<const Args&>()))::kCount;
  else
    outputs(Args{}, count);
  return listed == count_views<Args>();
}

}  // namespace ml
