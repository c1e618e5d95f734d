#pragma once
// State of one environment (main thread or worker): no static JS references anywhere.

#include <napi.h>

#include <memory>
#include <vector>

#include "device/device.h"

namespace ml::binding {

struct Addon {
  Napi::FunctionReference error_class;  // MemoryLayersError(code, message), given by lib/ at load
  uint64_t crossings = 0;               // calls from JavaScript, counted for tests
  napi_threadsafe_function deliver = nullptr;
  int64_t waiting = 0;  // promises not settled yet: they keep the process alive
  std::vector<std::weak_ptr<Device>> devices;
};

Addon& addon_of(Napi::Env env);
void start(Napi::Env env);  // makes the Addon, its thread-safe function and its clean-up hook

// A promise that settles when the stream has run all work so far. `value` makes its result on the
// JavaScript thread and keeps alive what `target` belongs to.
using MakeValue = std::function<Napi::Value(Napi::Env)>;
Napi::Promise read_later(Napi::Env env, const std::shared_ptr<Device>& device, void* target,
                         const void* source, size_t bytes, MakeValue value);

Napi::Error to_js(Napi::Env env, const Error& error);

}  // namespace ml::binding
