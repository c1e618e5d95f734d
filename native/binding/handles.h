#pragma once
// Native objects as JavaScript sees them: plain objects that are type-tagged and own a C++ object,
// and the reading of arguments. Anything of the wrong kind is an error here, before native code
// uses it.

#include <cmath>
#include <memory>
#include <string>

#include "binding/addon.h"
#include "layer/memory_layer.h"
#include "layer/optimizer.h"
#include "layer/peer_layer.h"

namespace ml::binding {

// What a tensor handle owns. Views of the same storage report no memory of their own.
struct TensorBox {
  Tensor tensor;
  int64_t reported = 0;  // bytes told to V8
};
struct DeviceBox {
  std::shared_ptr<Device> device;
};
struct TableBox {
  std::shared_ptr<ValueTable> table;
};
struct MemoryLayerBox {
  std::unique_ptr<MemoryLayer> layer;
};
struct PeerLayerBox {
  std::unique_ptr<PeerLayer> layer;
};
struct ContextBox {
  std::unique_ptr<MemoryContext> memory;
  std::unique_ptr<PeerContext> peer;
};
struct OptimizerBox {
  std::unique_ptr<Optimizer> optimizer;
};

template <class Box>
struct Tag;
#define ML_TAG(Box, number)                                           \
  template <>                                                         \
  struct Tag<Box> {                                                   \
    static constexpr napi_type_tag value{0x6d656d6f72796c61, number}; \
    static constexpr const char* name = #Box;                         \
  };
ML_TAG(TensorBox, 1)
ML_TAG(DeviceBox, 2)
ML_TAG(TableBox, 3)
ML_TAG(MemoryLayerBox, 4)
ML_TAG(PeerLayerBox, 5)
ML_TAG(ContextBox, 6)
ML_TAG(OptimizerBox, 7)
#undef ML_TAG

// Any call into the environment may fail: a worker can be terminated between two of them.
inline void check_napi(Napi::Env env, napi_status status) {
  if (status != napi_ok) throw Napi::Error::New(env);
}

template <class Box>
Napi::Object wrap(Napi::Env env, Box box) {
  Napi::Object object = Napi::Object::New(env);
  auto owned = std::make_unique<Box>(std::move(box));
  const auto finalize = [](napi_env raw, void* data, void*) {
    const std::unique_ptr<Box> b(static_cast<Box*>(data));
    if constexpr (std::is_same_v<Box, TensorBox>) {
      int64_t total;
      napi_adjust_external_memory(raw, -b->reported, &total);
    }
  };
  check_napi(env, napi_wrap(env, object, owned.get(), finalize, nullptr, nullptr));
  owned.release();
  check_napi(env, napi_type_tag_object(env, object, &Tag<Box>::value));
  return object;
}

template <class Box>
Box& unwrap(const Napi::Value& value, const char* argument) {
  bool tagged = false;
  if (value.IsObject())
    check_napi(value.Env(),
               napi_check_object_type_tag(value.Env(), value, &Tag<Box>::value, &tagged));
  if (!tagged)
    throw Error(Code::value, std::string("binding: \"") + argument + "\" is not a native " +
                                 Tag<Box>::name + ".");
  void* data = nullptr;
  check_napi(value.Env(), napi_unwrap(value.Env(), value, &data));
  return *static_cast<Box*>(data);
}

// A tensor for JavaScript: the handle carries its shape and dtype. `owner`: its storage is new.
Napi::Object to_js(Napi::Env env, const Tensor& tensor, bool owner = true);

// The arguments of one call, in order.
class Arguments {
 public:
  explicit Arguments(const Napi::CallbackInfo& info) : info_(info) {}

  Napi::Env env() const { return info_.Env(); }
  Napi::Value next() { return info_[at_++]; }
  Device& device() { return *shared_device(); }
  std::shared_ptr<Device> shared_device() { return unwrap<DeviceBox>(next(), "device").device; }

  // Tensors of one call must live on one device.
  Tensor tensor(const char* name);
  Tensor optional_tensor(const char* name);
  // Tensors that the call writes to: ERR_UNSUPPORTED for the rows of a mapped file.
  Tensor output(const char* name);
  Tensor optional_output(const char* name);
  std::vector<Tensor> tensors(const char* name);
  std::shared_ptr<ValueTable> table(const char* name) {
    return unwrap<TableBox>(next(), name).table;
  }
  std::vector<std::shared_ptr<ValueTable>> tables(const char* name);

  double number(const char* name);
  int64_t integer(const char* name);
  uint64_t seed(const char* name) { return static_cast<uint64_t>(integer(name)); }
  bool boolean(const char* name);
  Shape shape(const char* name);
  template <class Enum>
  Enum choice(const char* name, int count) {
    const int64_t i = integer(name);
    if (i < 0 || i >= count)
      throw Error(Code::value, std::string("binding: \"") + name + "\" has no such choice.");
    return static_cast<Enum>(i);
  }
  DType dtype(const char* name) { return choice<DType>(name, kDTypeCount); }

 private:
  Tensor take(const Napi::Value& value, const char* name);

  const Napi::CallbackInfo& info_;
  size_t at_ = 0;
  const Device* device_ = nullptr;
};

// Turns ml::Error into a MemoryLayersError, and counts the call.
template <auto function>
Napi::Value guard(const Napi::CallbackInfo& info) {
  ++addon_of(info.Env()).crossings;
  try {
    Arguments arguments(info);
    return function(arguments);
  } catch (const Error& error) {
    throw to_js(info.Env(), error);
  } catch (const std::bad_alloc&) {
    throw to_js(info.Env(),
                Error(Code::out_of_memory, "no memory left for the bookkeeping of this call."));
  }
}

template <auto function>
void define(Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New<guard<function>>(exports.Env(), name));
}

void define_device(Napi::Object exports);
void define_ops(Napi::Object exports);
void define_layers(Napi::Object exports);

}  // namespace ml::binding
