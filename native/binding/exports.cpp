#include "binding/exports.h"

#include <cstdio>
#include <cstring>
#include <new>

namespace ml::binding {
namespace {

// Throws a MemoryLayersError; takes no memory of the addon. What lacks memory does not know for
// which operation: `operation` comes before the message.
void throw_error(const Arguments& a, Code code, const char* text, int rank = -1) noexcept {
  char operation[64], message[2048];
  a.operation(operation, sizeof(operation));
  const bool named = (code != Code::out_of_memory && code != Code::device) ||
                     std::strncmp(text, operation, std::strlen(operation)) == 0;
  if (!named) {
    std::snprintf(message, sizeof(message), "%s: %s", operation, text);
    text = message;
  }
  const Napi::Value error = make_error(a.env(), kCodeNames[static_cast<int>(code)], text, rank);
  if (!error.IsEmpty()) (void)napi_throw(a.env(), error);
}

void rethrow(const Napi::Error& error) noexcept {
  try {
    error.ThrowAsJavaScriptException();
  } catch (const Napi::Error&) {  // a worker is being terminated
  }
}

// The one guard between JavaScript and C++: no exception of C++ passes it.
napi_value call_export(napi_env env, napi_callback_info info) noexcept {
  Arguments arguments(env, info);
  Addon& addon = addon_of(env);
  ++addon.crossings;
  const size_t made = addon.made_handles.count();  // by calls that this one is nested in
  try {
    if (arguments.called().makes == Makes::handles) {
      addon.spare_blocks.fill();
      addon.made_handles.reserve(SpareBlocks::kCount);
    }
    const napi_value result = arguments.called().function(arguments);
    addon.made_handles.forget(made);
    return result;
  } catch (const Error& error) {
    throw_error(arguments, error.code(), error.what(), error.rank());
  } catch (const std::bad_alloc&) {
    throw_error(arguments, Code::out_of_memory, kNoBookkeeping);
  } catch (const Napi::Error& error) {  // an exception of JavaScript
    rethrow(error);
  } catch (const std::exception& error) {
    throw_error(arguments, Code::device, error.what());
  }
  addon.made_handles.release(env, made);
  return nullptr;
}

}  // namespace

void define(Napi::Object exports, const Export& entry) {
  napi_value function;
  check_napi(exports.Env(),
             napi_create_function(exports.Env(), entry.name, NAPI_AUTO_LENGTH, call_export,
                                  const_cast<Export*>(&entry), &function));
  exports.Set(entry.name, Napi::Function(exports.Env(), function));
}

}  // namespace ml::binding
