#pragma once
// The exact values of 16-bit tables that are trained (optim/exact_rows.h). They belong to the
// storage of the table: every optimizer of it updates the same ones, and whatever else writes to
// the table makes it exact as it stands.

#include "device/device.h"

namespace ml {

// Memory for the exact values of a table, of the table as it stands; empty if it has them already,
// or is not of 16 bits.
std::shared_ptr<Storage> new_exact_rows(const Tensor& table);

// What is kept beside the table, as an operation takes it; empty for a float32 table.
Tensor exact_rows(const Tensor& table);

// The exact values, [N, V] float32, in a new tensor.
Tensor exact_values(const Tensor& table);
// Sets them where `values` [N, V] float32 round to what the table holds.
void set_exact_values(const Tensor& table, const Tensor& values);

// `written` of a storage that has exact values was overwritten: it is exact as it stands.
void reset_exact_rows(Device& device, const View& written);

}  // namespace ml
