#pragma once
// Reading the arguments of one call from JavaScript. What is of the wrong kind is an error.

#include <optional>

#include "binding/handles.h"

namespace ml::binding {

struct Export;

// The arguments of one call, in order.
class Arguments {
 public:
  // Takes no memory.
  Arguments(napi_env env, napi_callback_info info) noexcept;

  Napi::Env env() const { return env_; }
  Napi::Value undefined() const { return env().Undefined(); }
  // undefined behind the last
  Napi::Value next() { return at_ < kMost ? Napi::Value(env_, values_[at_++]) : undefined(); }

  const Export& called() const { return *export_; }
  // The next argument, a string or undefined, names the call in messages instead of its export.
  void name_operation() { name_ = next(); }
  // The name of the call in messages, cut to the buffer.
  void operation(char* name, size_t size) const noexcept;
  Device& device() { return *shared_device(); }
  std::shared_ptr<Device> shared_device();

  // Tensors of one call must live on one device.
  Tensor tensor(const char* name);
  Tensor optional_tensor(const char* name);
  // Tensors that the call writes to: ERR_UNSUPPORTED for the rows of a mapped file.
  Tensor output(const char* name);
  Tensor optional_output(const char* name);
  std::vector<Tensor> tensors(const char* name);
  // undefined, or an array of tensors and undefined
  std::optional<std::vector<Tensor>> optional_list_of_optional(const char* name);
  Napi::Array array(const char* name);
  std::shared_ptr<ValueTable> table(const char* name);
  std::shared_ptr<ValueTable> optional_table(const char* name);
  // ERR_DISPOSED for a table that was disposed.
  std::vector<std::shared_ptr<ValueTable>> tables(const char* name);
  std::optional<std::vector<std::shared_ptr<ValueTable>>> optional_tables(const char* name);

  double number(const char* name);
  float float32(const char* name) { return static_cast<float>(number(name)); }
  int64_t integer(const char* name);
  uint64_t seed(const char* name) { return static_cast<uint64_t>(integer(name)); }
  bool boolean(const char* name);
  Shape shape(const char* name);
  template <class Enum>
  Enum choice(const char* name) {
    const int64_t i = integer(name);
    if (i < 0 || i >= count_of(Enum{}))
      throw Error(Code::value, std::string("binding: \"") + name + "\" has no such choice.");
    return static_cast<Enum>(i);
  }

 private:
  Tensor checked(const Napi::Value& value, const char* name);
  std::shared_ptr<ValueTable> checked_table(const Napi::Value& value, const char* name);
  void check_device(const Device& device, const char* name);

  static constexpr size_t kMost = 24;  // arguments of a call

  Napi::Env env_;
  napi_value values_[kMost];
  size_t at_ = 0;
  const Export* export_ = nullptr;
  napi_value name_ = nullptr;
  const Device* device_ = nullptr;
};

}  // namespace ml::binding
