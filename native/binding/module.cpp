#include "binding/exports.h"

namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  using namespace ml::binding;
  start(env);
  define_capture(exports);
  define_device(exports);
  define_files(exports);
  define_tensor(exports);
  define_value_table(exports);
  define_layers(exports);
  define_optimizer(exports);
  define_attention(exports);
  define_dense(exports);
  define_distributed(exports);
  define_elementwise(exports);
  define_embedding_bag(exports);
  define_layout(exports);
  define_lookup(exports);
  define_peer(exports);
  define_sequence(exports);
  define_failures(exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(memory_layers, init)
