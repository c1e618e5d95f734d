#include "binding/addon.h"

namespace ml::binding {
namespace {

// One finished wait on its way from the stream's thread to JavaScript.
struct Delivery {
  std::shared_ptr<Device> device;
  Napi::Promise::Deferred deferred;
  MakeValue value;
  std::optional<Fault> fault;
};

void settle(napi_env raw, napi_value, void*, void* data) {
  std::unique_ptr<Delivery> d(static_cast<Delivery*>(data));
  if (raw == nullptr) {  // the environment is being torn down: no JavaScript can run
    return;
  }
  Napi::Env env(raw);
  Napi::HandleScope scope(env);
  Addon& addon = addon_of(env);
  if (--addon.waiting == 0) napi_unref_threadsafe_function(env, addon.deliver);
  if (d->fault) d->device->stream().acknowledge(d->fault->first);
  try {
    if (d->fault) {
      d->deferred.Reject(to_js(env, d->fault->error).Value());
    } else {
      d->deferred.Resolve(d->value(env));
    }
  } catch (const Napi::Error&) {  // a worker is being terminated
  }
}

// The streams are drained before the environment is torn down: they write into its array buffers.
void clean_up(void* data) {
  Addon* addon = static_cast<Addon*>(data);
  for (const auto& weak : addon->devices)
    if (auto device = weak.lock()) device->stream().wait();
  napi_release_threadsafe_function(addon->deliver, napi_tsfn_abort);
}

}  // namespace

Addon& addon_of(Napi::Env env) { return *env.GetInstanceData<Addon>(); }

void start(Napi::Env env) {
  auto* addon = new Addon;
  env.SetInstanceData(addon);
  napi_value name;
  napi_create_string_utf8(env, "memory-layers", NAPI_AUTO_LENGTH, &name);
  napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, nullptr,
                                  settle, &addon->deliver);
  napi_unref_threadsafe_function(env, addon->deliver);
  napi_add_env_cleanup_hook(env, clean_up, addon);
}

Napi::Promise read_later(Napi::Env env, const std::shared_ptr<Device>& device, void* target,
                         const void* source, size_t bytes, MakeValue value) {
  Addon& addon = addon_of(env);
  auto* d = new Delivery{device, Napi::Promise::Deferred::New(env), std::move(value), std::nullopt};
  const Napi::Promise promise = d->deferred.Promise();
  if (addon.waiting++ == 0) napi_ref_threadsafe_function(env, addon.deliver);
  // The stream's thread owns no reference to the device: the last one must be released on the
  // JavaScript thread.
  device->stream().read(target, source, bytes,
                        [d, deliver = addon.deliver](const std::optional<Fault>& fault) {
                          d->fault = fault;
                          // fails only while the environment goes
                          napi_call_threadsafe_function(deliver, d, napi_tsfn_nonblocking);
                        });
  return promise;
}

Napi::Error to_js(Napi::Env env, const Error& error) {
  Addon& addon = addon_of(env);
  if (addon.error_class.IsEmpty()) return Napi::Error::New(env, error.what());
  const Napi::Value value = addon.error_class.New(
      {Napi::String::New(env, error.code_name()), Napi::String::New(env, error.what())});
  return Napi::Error(env, value);
}

}  // namespace ml::binding
