// Memory layers and PEER layers: one crossing for each forward and each backward.

#include "binding/exports.h"
#include "device/batch.h"

namespace ml::binding {
namespace {

QueryOptions query_options(Arguments& a) {
  return {.input_dim = a.integer("inputDim"),
          .heads = a.integer("heads"),
          .knn = a.integer("knn"),
          .n_keys = a.integer("nKeys"),
          .key_dim = a.integer("keyDim"),
          .bias = a.boolean("queryBias"),
          .rms_norm = a.boolean("queryNorm"),
          .seed = a.seed("seed"),
          .compute = a.choice<Compute>("compute")};
}

Napi::Array parameters(Napi::Env env, const std::vector<Parameter*>& list) {
  Napi::Array array = Napi::Array::New(env);
  for (const Parameter* p : list) {
    Napi::Object o = Napi::Object::New(env);
    o.Set("name", p->name);
    o.Set("value", to_js(env, p->value));
    o.Set("grad", to_js(env, p->grad));
    array.Set(array.Length(), o);
  }
  return array;
}

// (device, table, query options, outputDim, silu gate, output gate)
Napi::Value memory_layer_create(Arguments& a) {
  const auto device = a.shared_device();
  const auto table = a.table("values");
  const MemoryLayerOptions o{.query = query_options(a),
                             .value_dim = a.integer("valueDim"),
                             .output_dim = a.integer("outputDim"),
                             .silu_gate = a.boolean("siluGate"),
                             .output_gate = a.boolean("outputGate")};
  MemoryLayerBox box{std::make_unique<MemoryLayer>(device, o, table)};
  Napi::Array list = parameters(a.env(), box.layer->parameters());
  Napi::Object handle = wrap(a.env(), std::move(box));
  handle.Set("parameters", list);
  return handle;
}

template <class Box>
Napi::Value layer_dispose(Arguments& a) {
  unwrap<Box>(a.next(), "layer").layer.reset();
  return a.undefined();
}

Napi::Object wrap_context(Napi::Env env, ContextBox::Saved saved) {
  return wrap(env, ContextBox{std::make_shared<ContextBox::Saved>(std::move(saved))});
}

Napi::Value memory_layer_forward(Arguments& a) {
  MemoryLayer& layer = live(unwrap<MemoryLayerBox>(a.next(), "layer").layer, "MemoryLayer.forward");
  ForwardResult r = layer.forward(a.tensor("x"), true);
  Napi::Object o = Napi::Object::New(a.env());
  o.Set("output", to_js(a.env(), r.output));
  o.Set("context", wrap_context(a.env(), {.memory = std::move(r.context), .peer = {}}));
  return o;
}

Napi::Value memory_layer_infer(Arguments& a) {
  MemoryLayer& layer = live(unwrap<MemoryLayerBox>(a.next(), "layer").layer, "MemoryLayer.infer");
  return to_js(a.env(), layer.forward(a.tensor("x"), false).output);
}

// How often the slots were read since the last call: the bits of SlotStatistics.
template <class Box>
Napi::Value layer_usage(Arguments& a) {
  const auto& layer = live(unwrap<Box>(a.next(), "layer").layer, a.called().operation);
  return to_js(a.env(), layer.usage());
}

// The context of this layer's own forward, not yet spent.
template <class C>
C& expect_context(const char* where, const std::unique_ptr<C>& context, uint64_t layer) {
  if (!context)
    throw Error(Code::context,
                std::string(where) +
                    ": \"context\" was spent by an earlier backward, disposed, or belongs to a "
                    "layer of another kind."
                    "\n  Each forward gives a context for one backward; run forward again.");
  if (context->layer != layer)
    throw Error(Code::context, std::string(where) +
                                   ": \"context\" is from another layer's forward.\n  Pass the "
                                   "context that this layer's forward returned.");
  return *context;
}

// A backward with its result made before any work is enqueued: after an error nothing has changed,
// and the context is not spent, either of this call or of a batch that it is part of.
template <class Layer, class C>
Napi::Value spend(Arguments& a, Layer& layer, const ContextBox& box,
                  std::unique_ptr<C> ContextBox::Saved::* kind, const char* where) {
  C& context = expect_context(where, (*box.saved).*kind, layer.id());
  Device& device = context.x.device();
  Batch batch(device);
  const Napi::Object dx = to_js(a.env(), layer.backward(context, a.tensor("dy")));
  Batch::submit(device, [saved = box.saved] { saved->reset(); });
  batch.commit();
  return dx;
}

Napi::Value memory_layer_backward(Arguments& a) {
  MemoryLayer& layer =
      live(unwrap<MemoryLayerBox>(a.next(), "layer").layer, "MemoryLayer.backward");
  ContextBox& box = unwrap<ContextBox>(a.next(), "context");
  return spend(a, layer, box, &ContextBox::Saved::memory, "MemoryLayer.backward");
}

Napi::Value context_dispose(Arguments& a) {
  unwrap<ContextBox>(a.next(), "context").saved->reset();
  return a.undefined();
}

// What a memory layer's forward selected: for study and tests.
Napi::Value context_lookup(Arguments& a) {
  const ContextBox::Saved& saved = *unwrap<ContextBox>(a.next(), "context").saved;
  if (!saved.memory && !saved.peer)
    throw Error(Code::context,
                "Context.lookup: the context was spent.\n  Read it before backward.");
  const QueryContext& q = saved.memory ? saved.memory->query : saved.peer->query;
  // Copies: the read that backward queues must be the one that forward made.
  return to_js(a.env(), {{"scores", copy_of(q.scores)},
                         {"indices", copy_of(q.indices)},
                         {"weights", copy_of(q.weights)}});
}

// (device, down, up, query options, activation)
Napi::Value peer_layer_create(Arguments& a) {
  const auto device = a.shared_device();
  const auto down = a.table("down"), up = a.table("up");
  const PeerLayerOptions o{.query = query_options(a),
                           .output_dim = a.integer("outputDim"),
                           .activation = a.choice<Activation>("activation")};
  PeerLayerBox box{std::make_unique<PeerLayer>(device, o, down, up)};
  Napi::Array list = parameters(a.env(), box.layer->parameters());
  Napi::Object handle = wrap(a.env(), std::move(box));
  handle.Set("parameters", list);
  return handle;
}

Napi::Value peer_layer_forward(Arguments& a) {
  PeerLayer& layer = live(unwrap<PeerLayerBox>(a.next(), "layer").layer, "PeerLayer.forward");
  PeerLayer::Result r = layer.forward(a.tensor("x"), true);
  Napi::Object o = Napi::Object::New(a.env());
  o.Set("output", to_js(a.env(), r.output));
  o.Set("context", wrap_context(a.env(), {.memory = {}, .peer = std::move(r.context)}));
  return o;
}

Napi::Value peer_layer_infer(Arguments& a) {
  PeerLayer& layer = live(unwrap<PeerLayerBox>(a.next(), "layer").layer, "PeerLayer.infer");
  return to_js(a.env(), layer.forward(a.tensor("x"), false).output);
}

Napi::Value peer_layer_backward(Arguments& a) {
  PeerLayer& layer = live(unwrap<PeerLayerBox>(a.next(), "layer").layer, "PeerLayer.backward");
  ContextBox& box = unwrap<ContextBox>(a.next(), "context");
  return spend(a, layer, box, &ContextBox::Saved::peer, "PeerLayer.backward");
}

// The parts of a forward and a backward of a layer whose tables are divided among ranks.
constexpr auto kMemory = &ContextBox::Saved::memory;
constexpr auto kPeer = &ContextBox::Saved::peer;

template <class Box>
auto& live_layer(Arguments& a) {
  return live(unwrap<Box>(a.next(), "layer").layer, a.called().operation);
}

template <class Box, auto kind>
Napi::Value layer_look_up(Arguments& a) {
  auto& layer = live_layer<Box>(a);
  const Tensor x = a.tensor("x");
  auto context = layer.look_up(x, a.boolean("save"));
  const Shape bags = layer.bags(*context);
  const QueryContext q = context->query;
  ContextBox::Saved saved;
  saved.*kind = std::move(context);
  Napi::Object o = to_js(
      a.env(), {{"indices", q.indices.reshaped(bags)}, {"weights", q.weights.reshaped(bags)}});
  o.Set("context", wrap_context(a.env(), std::move(saved)));
  return o;
}

template <class Layer, class C>
C& next_context(Arguments& a, const Layer& layer, std::unique_ptr<C> ContextBox::Saved::* kind) {
  return expect_context(a.called().operation,
                        (*unwrap<ContextBox>(a.next(), "context").saved).*kind, layer.id());
}

template <auto part>
Napi::Value memory_layer_part(Arguments& a) {
  MemoryLayer& layer = live_layer<MemoryLayerBox>(a);
  (layer.*part)(next_context(a, layer, kMemory));
  return a.undefined();
}

Napi::Value memory_layer_finish(Arguments& a) {
  MemoryLayer& layer = live_layer<MemoryLayerBox>(a);
  MemoryContext& context = next_context(a, layer, &ContextBox::Saved::memory);
  const Tensor y = a.tensor("y");
  std::vector<Tensor> kept = a.tensors("kept");
  const Tensor output = layer.finish(context, y, a.boolean("save"));
  context.kept = std::move(kept);
  return to_js(a.env(), output);
}

Napi::Value peer_layer_keep(Arguments& a) {
  PeerLayer& layer = live_layer<PeerLayerBox>(a);
  PeerContext& context = next_context(a, layer, &ContextBox::Saved::peer);
  context.kept = a.tensors("kept");
  layer.save(context);
  return a.undefined();
}

template <class Box, auto kind>
Napi::Value layer_backward_rows(Arguments& a) {
  auto& layer = live_layer<Box>(a);
  auto& context = next_context(a, layer, kind);
  Napi::Object o = to_js(a.env(), {{"rows", layer.backward_rows(context, a.tensor("dy"))}});
  Napi::Array kept = Napi::Array::New(a.env());
  for (const Tensor& t : context.kept) kept.Set(kept.Length(), to_js(a.env(), t, false));
  o.Set("kept", kept);
  return o;
}

template <class Box, class C, class Backward>
Napi::Value layer_backward_lookup(Arguments& a, std::unique_ptr<C> ContextBox::Saved::* kind,
                                  const Backward& backward) {
  auto& layer = live_layer<Box>(a);
  const ContextBox& box = unwrap<ContextBox>(a.next(), "context");
  C& context = expect_context(a.called().operation, (*box.saved).*kind, layer.id());
  Batch batch(layer.device());
  const Napi::Object dx = to_js(a.env(), backward(layer, context));
  Batch::submit(layer.device(), [saved = box.saved] { saved->reset(); });
  batch.commit();
  return dx;
}

Napi::Value memory_layer_backward_lookup(Arguments& a) {
  return layer_backward_lookup<MemoryLayerBox>(
      a, &ContextBox::Saved::memory, [&](MemoryLayer& layer, MemoryContext& context) {
        return layer.backward_lookup(context, a.tensor("dWeights"));
      });
}

Napi::Value peer_layer_backward_lookup(Arguments& a) {
  return layer_backward_lookup<PeerLayerBox>(
      a, &ContextBox::Saved::peer, [&](PeerLayer& layer, PeerContext& context) {
        const Tensor dweights = a.tensor("dWeights");
        return layer.backward_lookup(context, dweights, a.output("dx"));
      });
}

}  // namespace

void define_layers(Napi::Object exports) {
  define<memory_layer_create>(exports, "memoryLayerCreate", "MemoryLayer");
  define<memory_layer_forward>(exports, "memoryLayerForward", "MemoryLayer.forward");
  define<memory_layer_infer>(exports, "memoryLayerInfer", "MemoryLayer.infer");
  define<memory_layer_backward>(exports, "memoryLayerBackward", "MemoryLayer.backward");
  define<layer_dispose<MemoryLayerBox>, Makes::nothing>(exports, "layerDispose",
                                                        "MemoryLayer.dispose");
  define<layer_dispose<PeerLayerBox>, Makes::nothing>(exports, "peerDispose", "PeerLayer.dispose");
  define<layer_usage<MemoryLayerBox>>(exports, "memoryLayerUsage", "MemoryLayer.usage");
  define<layer_usage<PeerLayerBox>>(exports, "peerLayerUsage", "PeerLayer.usage");
  define<context_dispose, Makes::nothing>(exports, "contextDispose", "Context.dispose");
  define<context_lookup>(exports, "contextLookup", "Context.lookup");
  define<peer_layer_create>(exports, "peerLayerCreate", "PeerLayer");
  define<peer_layer_forward>(exports, "peerLayerForward", "PeerLayer.forward");
  define<peer_layer_infer>(exports, "peerLayerInfer", "PeerLayer.infer");
  define<peer_layer_backward>(exports, "peerLayerBackward", "PeerLayer.backward");
  define<layer_look_up<MemoryLayerBox, kMemory>>(exports, "memoryLayerLookUp",
                                                 "MemoryLayer.forward");
  define<memory_layer_part<&MemoryLayer::gate>>(exports, "memoryLayerGate", "MemoryLayer.forward");
  define<memory_layer_part<&MemoryLayer::backward_gate>>(exports, "memoryLayerBackwardGate",
                                                         "MemoryLayer.backward");
  define<memory_layer_finish>(exports, "memoryLayerFinish", "MemoryLayer.forward");
  define<layer_backward_rows<MemoryLayerBox, kMemory>>(exports, "memoryLayerBackwardRows",
                                                       "MemoryLayer.backward");
  define<memory_layer_backward_lookup>(exports, "memoryLayerBackwardLookup",
                                       "MemoryLayer.backward");
  define<layer_look_up<PeerLayerBox, kPeer>>(exports, "peerLayerLookUp", "PeerLayer.forward");
  define<peer_layer_keep>(exports, "peerLayerKeep", "PeerLayer.forward");
  define<layer_backward_rows<PeerLayerBox, kPeer>>(exports, "peerLayerBackwardRows",
                                                   "PeerLayer.backward");
  define<peer_layer_backward_lookup>(exports, "peerLayerBackwardLookup", "PeerLayer.backward");
}

}  // namespace ml::binding
