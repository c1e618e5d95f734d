#pragma once
// The functions of the addon, each with one guard between JavaScript and C++. binding.d.ts lists
// them all.

#include <new>

#include "binding/arguments.h"

namespace ml::binding {

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

// One for each file of binding/ and binding/ops/.
void define_device(Napi::Object exports);
void define_tensor(Napi::Object exports);
void define_value_table(Napi::Object exports);
void define_layers(Napi::Object exports);
void define_optimizer(Napi::Object exports);
void define_attention(Napi::Object exports);
void define_dense(Napi::Object exports);
void define_elementwise(Napi::Object exports);
void define_embedding_bag(Napi::Object exports);
void define_lookup(Napi::Object exports);
void define_peer(Napi::Object exports);

}  // namespace ml::binding
