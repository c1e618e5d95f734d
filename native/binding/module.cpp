#include "binding/handles.h"

namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  ml::binding::start(env);
  ml::binding::define_device(exports);
  ml::binding::define_ops(exports);
  ml::binding::define_layers(exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(memory_layers, init)
