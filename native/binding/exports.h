#pragma once
// The functions of the addon, each with one guard between JavaScript and C++. binding.d.ts lists
// them all.

#include "binding/arguments.h"

namespace ml::binding {

enum class Makes : uint8_t {
  handles,  // perhaps, for which memory is taken beforehand
  nothing,  // frees or ends something, which needs no memory, so that it works when there is none
};

struct Export {
  const char* name;       // in binding.d.ts
  const char* operation;  // in messages: the name in the public API
  Napi::Value (*function)(Arguments&);
  Makes makes;
};

void define(Napi::Object exports, const Export& entry);

// `operation` is given where it is not the export's own name.
template <auto function, Makes makes = Makes::handles>
void define(Napi::Object exports, const char* name, const char* operation = nullptr) {
  static const Export entry{name, operation ? operation : name, function, makes};
  define(exports, entry);
}

// One for each file of binding/ and binding/ops/.
void define_capture(Napi::Object exports);
void define_device(Napi::Object exports);
void define_files(Napi::Object exports);
void define_tensor(Napi::Object exports);
void define_value_table(Napi::Object exports);
void define_layers(Napi::Object exports);
void define_optimizer(Napi::Object exports);
void define_attention(Napi::Object exports);
void define_distributed(Napi::Object exports);
void define_dense(Napi::Object exports);
void define_elementwise(Napi::Object exports);
void define_failures(Napi::Object exports);
void define_embedding_bag(Napi::Object exports);
void define_layout(Napi::Object exports);
void define_lookup(Napi::Object exports);
void define_peer(Napi::Object exports);
void define_sequence(Napi::Object exports);

}  // namespace ml::binding
