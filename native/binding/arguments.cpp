#include "binding/arguments.h"

#include <cmath>
#include <cstdio>

#include "binding/exports.h"

namespace ml::binding {

Arguments::Arguments(napi_env env, napi_callback_info info) noexcept : env_(env) {
  size_t count = kMost;  // napi fills the rest with undefined
  void* entry = nullptr;
  (void)napi_get_cb_info(env, info, &count, values_, nullptr, &entry);
  export_ = static_cast<const Export*>(entry);
}

void Arguments::operation(char* name, size_t size) const noexcept {
  size_t length;
  if (name_ && napi_get_value_string_utf8(env_, name_, name, size, &length) == napi_ok) return;
  std::snprintf(name, size, "%s", export_->operation);
}

Tensor Arguments::checked(const Napi::Value& value, const char* name) {
  const Tensor& t = unwrap<TensorBox>(value, name).tensor;
  if (!t)
    throw Error(Code::disposed, std::string("\"") + name + "\" is a tensor that was disposed.");
  expect_open(t.device());
  check_device(t.device(), name);
  return t;
}

void Arguments::check_device(const Device& device, const char* name) {
  if (device_ && device_ != &device)
    throw Error(Code::device_mismatch,
                std::string("\"") + name + "\" is on another device than the tensors before it.");
  device_ = &device;
}

std::shared_ptr<Device> Arguments::shared_device() {
  std::shared_ptr<Device> device = unwrap<DeviceBox>(next(), "device").device;
  expect_open(*device);
  return device;
}

std::shared_ptr<ValueTable> Arguments::checked_table(const Napi::Value& value, const char* name) {
  std::shared_ptr<ValueTable> table = unwrap<TableBox>(value, name).table;
  if (table->weight()) expect_open(table->device());
  return table;
}

std::shared_ptr<ValueTable> Arguments::table(const char* name) {
  return checked_table(next(), name);
}

std::shared_ptr<ValueTable> Arguments::optional_table(const char* name) {
  const Napi::Value value = next();
  return value.IsUndefined() ? nullptr : checked_table(value, name);
}

Tensor Arguments::tensor(const char* name) { return checked(next(), name); }

Tensor Arguments::optional_tensor(const char* name) {
  const Napi::Value value = next();
  return value.IsUndefined() || value.IsNull() ? Tensor{} : checked(value, name);
}

static const Tensor& writable(const Tensor& t, const char* name) {
  if (t && t.storage->read_only())
    throw Error(Code::unsupported, std::string("\"") + name +
                                       "\" is mapped from a file and can only be read.\n  Copy it "
                                       "with .to(dtype), or load the file with loadSafetensors.");
  return t;
}

Tensor Arguments::output(const char* name) { return writable(tensor(name), name); }

Tensor Arguments::optional_output(const char* name) {
  return writable(optional_tensor(name), name);
}

Napi::Array Arguments::array(const char* name) {
  const Napi::Value value = next();
  if (!value.IsArray())
    throw Error(Code::value, std::string("binding: \"") + name + "\" is not an array.");
  return value.As<Napi::Array>();
}

std::vector<Tensor> Arguments::tensors(const char* name) {
  const Napi::Array list = array(name);
  std::vector<Tensor> tensors;
  for (uint32_t i = 0; i < list.Length(); ++i) tensors.push_back(checked(list.Get(i), name));
  return tensors;
}

std::optional<std::vector<Tensor>> Arguments::optional_list_of_optional(const char* name) {
  if (at_ < kMost && Napi::Value(env_, values_[at_]).IsUndefined()) {
    ++at_;
    return std::nullopt;
  }
  const Napi::Array list = array(name);
  std::vector<Tensor> tensors;
  for (uint32_t i = 0; i < list.Length(); ++i) {
    const Napi::Value value = list.Get(i);
    tensors.push_back(value.IsUndefined() ? Tensor{} : checked(value, name));
  }
  return tensors;
}

std::vector<std::shared_ptr<ValueTable>> Arguments::tables(const char* name) {
  const Napi::Array list = array(name);
  std::vector<std::shared_ptr<ValueTable>> tables;
  for (uint32_t i = 0; i < list.Length(); ++i) {
    tables.push_back(checked_table(list.Get(i), name));
    check_device(tables.back()->live_weight(name).device(), name);
  }
  return tables;
}

std::optional<std::vector<std::shared_ptr<ValueTable>>> Arguments::optional_tables(
    const char* name) {
  if (at_ < kMost && Napi::Value(env_, values_[at_]).IsUndefined()) {
    ++at_;
    return std::nullopt;
  }
  return tables(name);
}

double Arguments::number(const char* name) {
  const Napi::Value value = next();
  if (!value.IsNumber())
    throw Error(Code::value, std::string("binding: \"") + name + "\" is not a number.");
  return value.As<Napi::Number>().DoubleValue();
}

int64_t Arguments::integer(const char* name) {
  const double value = number(name);
  if (!(std::floor(value) == value && std::abs(value) <= 9007199254740991.0))
    throw Error(Code::value, std::string("binding: \"") + name + "\" is not an integer.");
  return static_cast<int64_t>(value);
}

bool Arguments::boolean(const char* name) {
  const Napi::Value value = next();
  if (!value.IsBoolean())
    throw Error(Code::value, std::string("binding: \"") + name + "\" is not a boolean.");
  return value.As<Napi::Boolean>().Value();
}

Shape Arguments::shape(const char* name) {
  const Napi::Array list = array(name);
  if (list.Length() > kMaxRank)
    throw Error(Code::shape, std::string("a tensor has at most ") + std::to_string(kMaxRank) +
                                 " dimensions, got " + std::to_string(list.Length()) + ".");
  Shape s;
  s.rank = static_cast<int>(list.Length());
  for (int i = 0; i < s.rank; ++i) {
    const double d = list.Get(static_cast<uint32_t>(i)).ToNumber().DoubleValue();
    if (!(d >= 0 && std::floor(d) == d && d <= static_cast<double>(kMaxElements)))
      throw Error(Code::shape, std::string("\"") + name +
                                   "\" must have sizes that are integers from 0 to 2^50.");
    s.dims[i] = static_cast<int64_t>(d);
  }
  expect_valid("binding", name, s);
  return s;
}

}  // namespace ml::binding
