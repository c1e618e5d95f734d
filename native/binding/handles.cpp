#include "binding/handles.h"

namespace ml::binding {

Napi::Object to_js(Napi::Env env, const Tensor& tensor, bool owner) {
  const int64_t reported = owner ? tensor.storage->bytes() : 0;
  Napi::Object object = wrap(env, TensorBox{tensor, reported});
  if (reported) Napi::MemoryManagement::AdjustExternalMemory(env, reported);
  Napi::Array shape = Napi::Array::New(env, static_cast<size_t>(tensor.shape.rank));
  for (int i = 0; i < tensor.shape.rank; ++i)
    shape.Set(static_cast<uint32_t>(i), to_js(env, tensor.shape[i]));
  object.Set("shape", shape);
  object.Set("dtype", Napi::Number::New(env, static_cast<int>(tensor.dtype)));
  return object;
}

Napi::Object to_js(Napi::Env env, NamedTensors tensors, bool owner) {
  Napi::Object object = Napi::Object::New(env);
  for (const auto& [name, tensor] : tensors)
    if (tensor) object.Set(name, to_js(env, tensor, owner));
  return object;
}

Napi::Object to_js(Napi::Env env, const SparseGrad& g) {
  Napi::Object object = to_js(env, {{"rows", g.rows}, {"values", g.values}, {"count", g.count}});
  object.Set("slots", to_js(env, g.slots));
  return object;
}

}  // namespace ml::binding
