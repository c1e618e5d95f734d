#include "layer/exact_rows.h"

#include "layer/run.h"

namespace ml {
namespace {

// Where the exact values of elements of 16 bits are, in bytes from the beginning.
int64_t exact_offset(DType dtype, int64_t offset) {
  return dtype == DType::f16 ? 2 * offset : offset;
}

View exact_view(Storage& exact, DType dtype, int64_t offset, const Shape& shape) {
  View v;
  v.data = static_cast<char*>(exact.data()) + exact_offset(dtype, offset);
  v.given = true;
  v.storage = &exact;
  if (dtype == DType::f16) {
    v.shape = shape;
  } else {
    v.dtype = DType::u8;
    v.shape = {shape.size(), 2};
  }
  return v;
}

void reset(Device& device, Storage& exact, const View& table, int64_t offset) {
  const View out = exact_view(exact, table.dtype, offset, table.shape);
  if (table.dtype == DType::f16)
    run(device, Copy{.out = out, .in = table});
  else
    run(device, Fill{.out = out, .value = 0});
}

bool is_16_bit(DType dtype) { return dtype == DType::f16 || dtype == DType::bf16; }

}  // namespace

std::shared_ptr<Storage> new_exact_rows(const Tensor& table) {
  Storage& storage = *table.storage;
  if (!is_16_bit(table.dtype) || storage.exact) return nullptr;
  auto exact =
      new_storage(table.device().shared_from_this(), exact_offset(table.dtype, storage.bytes()));
  reset(table.device(), *exact, table.view(), table.offset);
  return exact;
}

Tensor exact_rows(const Tensor& table) {
  if (!is_16_bit(table.dtype)) return {};
  const bool low_halves = table.dtype == DType::bf16;
  Tensor t{table.storage->exact, exact_offset(table.dtype, table.offset),
           low_halves ? DType::u8 : DType::f32, table.shape};
  if (low_halves) t.shape = {table.shape[0], table.shape[1], 2};
  return t;
}

Tensor exact_values(const Tensor& table) {
  const Tensor values = empty(table.device(), table.shape);
  run(table.device(),
      ExactValues{
          .values = values.view(), .table = table.view(), .exact = exact_rows(table).view()});
  return values;
}

void set_exact_values(const Tensor& table, const Tensor& values) {
  run(table.device(),
      SetExactValues{
          .table = table.view(), .exact = exact_rows(table).view(), .values = values.view()});
}

void reset_exact_rows(Device& device, const View& written) {
  Storage& storage = *written.storage;
  const int64_t offset = static_cast<char*>(written.data) - static_cast<char*>(storage.data());
  reset(device, *storage.exact, written, offset);
}

}  // namespace ml
