#pragma once
// The exact values of a 16-bit table that is trained: float32, of which the table holds the rounded
// ones. They are kept beside the table, once, whoever updates it.
//     table   [N, V]     bfloat16                  float16
//     exact              [N, V, 2] uint8: the      [N, V] float32: the values
//                        signed low halves
//                        (core/split_float.h)
//   ExactValues       values = the exact values
//     values  [N, V]     float32   out; table, exact: in
//   SetExactValues    the exact values become `values` where those round to what the table holds,
//   to
//                     nearest even or as core/split_float.h does; elsewhere what the table holds
//     values  [N, V]     float32   in; table, exact: in, out
// A table that is written by anything but its update or SetExactValues is exact as it stands: its
// low halves become 0, its float32 values those of the table (layer/run.h).

#include "core/split_float.h"
#include "ops/operands.h"

namespace ml {

struct ExactValues {
  View values, table, exact;
};

struct SetExactValues {
  View table, exact, values;
};

template <class Input>
constexpr void inputs(const ExactValues& a, Input&& input) {
  input("table", a.table);
  input("exact", a.exact);
}

template <class Output>
constexpr void outputs(const ExactValues& a, Output&& output) {
  output("values", a.values);
}

template <class Input>
constexpr void inputs(const SetExactValues& a, Input&& input) {
  input("values", a.values);
}

template <class Output>
constexpr void outputs(const SetExactValues& a, Output&& output) {
  output("table", a.table, Write::updated);
  output("exact", a.exact, Write::updated);
}

// The table makes the arguments itself.
inline void check(const ExactValues&) {}
inline void check(const SetExactValues&) {}

// One element: `high` of a bfloat16 table with its low half, or `rounded` of a float16 table with
// its exact value.
ML_HOST_DEVICE constexpr void set_exact(BFloat16& high, int16_t& low, float value) {
  const bool holds = high_half(value).bits == high.bits || to_bfloat16(value).bits == high.bits;
  if (holds) high = high_half(value);
  low = holds ? low_half(value) : int16_t{0};
}

ML_HOST_DEVICE constexpr void set_exact(Half& rounded, float& exact, float value) {
  exact = to_half(value).bits == rounded.bits ? value : to_float(rounded);
}

ML_HOST_DEVICE constexpr float exact_value(BFloat16 high, int16_t low) { return join(high, low); }
ML_HOST_DEVICE constexpr float exact_value(Half, float exact) { return exact; }

// Calls f with the C++ types of a 16-bit table and of what is kept beside it.
template <class F>
void dispatch_exact(DType table, F&& f) {
  if (table == DType::bf16) return f(BFloat16{}, int16_t{});
  f(Half{}, float{});
}

}  // namespace ml
