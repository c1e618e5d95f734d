// Value tables, layers and optimizers: one crossing for each forward, backward and step.

#include "binding/handles.h"

namespace ml::binding {
namespace {

Napi::Value undefined(Arguments& a) { return a.env().Undefined(); }

template <class Object>
Object& live(const std::unique_ptr<Object>& object, const char* where) {
  if (!object)
    throw Error(Code::disposed,
                std::string(where) +
                    ": \"this\" was disposed.\n  Use it before dispose(), or make another.");
  return *object;
}

// (weight, scales or undefined)
Napi::Value table_create(Arguments& a) {
  const Tensor weight = a.tensor("weight"), scales = a.optional_tensor("scales");
  expect_rank("ValueTable", "weight", weight.view(), 2, "[slots, dim]");
  return wrap(a.env(), TableBox{std::make_shared<ValueTable>(weight, scales)});
}

Napi::Value table_gradient(Arguments& a) {
  const auto table = a.table("table");
  const SparseGrad g = sparse_grad(table->device(), table->pending(), table->slots(), table->dim());
  Napi::Object o = Napi::Object::New(a.env());
  o.Set("rows", to_js(a.env(), g.rows));
  o.Set("values", to_js(a.env(), g.values));
  o.Set("count", to_js(a.env(), g.count));
  o.Set("slots", Napi::Number::New(a.env(), static_cast<double>(g.slots)));
  return o;
}

// (table, indices, weights, dy): queues a read of bags as a layer's backward does.
Napi::Value table_push(Arguments& a) {
  const auto table = a.table("table");
  const Tensor indices = a.tensor("indices"), weights = a.tensor("weights"), dy = a.tensor("dy");
  if (&table->live_weight("tablePush").device() != &indices.device())
    throw Error(Code::device_mismatch, "tablePush: the read is on another device than the table.");
  check_reads("tablePush", {{indices.view(), weights.view(), dy.view(), {}}}, table->dim());
  table->push({indices, weights, dy, {}});
  return undefined(a);
}

Napi::Value table_clear(Arguments& a) {
  a.table("table")->clear();
  return undefined(a);
}

Napi::Value table_dispose(Arguments& a) {
  a.table("table")->dispose();
  return undefined(a);
}

Napi::Value table_pending(Arguments& a) {
  return Napi::Number::New(a.env(), static_cast<double>(a.table("table")->pending().size()));
}

QueryOptions query_options(Arguments& a) {
  QueryOptions o;
  o.input_dim = a.integer("inputDim");
  o.heads = a.integer("heads");
  o.knn = a.integer("knn");
  o.n_keys = a.integer("nKeys");
  o.key_dim = a.integer("keyDim");
  o.bias = a.boolean("queryBias");
  o.rms_norm = a.boolean("queryNorm");
  o.seed = a.seed("seed");
  return o;
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
  MemoryLayerOptions o;
  o.query = query_options(a);
  o.output_dim = a.integer("outputDim");
  o.silu_gate = a.boolean("siluGate");
  o.output_gate = a.boolean("outputGate");
  MemoryLayerBox box{std::make_unique<MemoryLayer>(device, o, table)};
  Napi::Array list = parameters(a.env(), box.layer->parameters());
  Napi::Object handle = wrap(a.env(), std::move(box));
  handle.Set("parameters", list);
  return handle;
}

template <class Box>
Napi::Value layer_dispose(Arguments& a) {
  unwrap<Box>(a.next(), "layer").layer.reset();
  return undefined(a);
}

Napi::Value memory_layer_forward(Arguments& a) {
  MemoryLayer& layer = live(unwrap<MemoryLayerBox>(a.next(), "layer").layer, "MemoryLayer.forward");
  ForwardResult r = layer.forward(a.tensor("x"), true);
  Napi::Object o = Napi::Object::New(a.env());
  o.Set("output", to_js(a.env(), r.output));
  o.Set("context", wrap(a.env(), ContextBox{std::move(r.context), nullptr}));
  return o;
}

Napi::Value memory_layer_infer(Arguments& a) {
  MemoryLayer& layer = live(unwrap<MemoryLayerBox>(a.next(), "layer").layer, "MemoryLayer.infer");
  return to_js(a.env(), layer.forward(a.tensor("x"), false).output);
}

// The context of this layer's own forward, not yet spent.
template <class C>
C& expect_context(const char* where, const std::unique_ptr<C>& context, const void* owner) {
  if (!context)
    throw Error(Code::context,
                std::string(where) +
                    ": \"context\" was spent by an earlier backward, disposed, or belongs to a "
                    "layer of another kind."
                    "\n  Each forward gives a context for one backward; run forward again.");
  if (context->owner != owner)
    throw Error(Code::context, std::string(where) +
                                   ": \"context\" is from another layer's forward.\n  Pass the "
                                   "context that this layer's forward returned.");
  return *context;
}

Napi::Value memory_layer_backward(Arguments& a) {
  MemoryLayer& layer =
      live(unwrap<MemoryLayerBox>(a.next(), "layer").layer, "MemoryLayer.backward");
  ContextBox& box = unwrap<ContextBox>(a.next(), "context");
  MemoryContext& context = expect_context("MemoryLayer.backward", box.memory, &layer);
  const Tensor dx = layer.backward(context, a.tensor("dy"));
  box.memory.reset();
  return to_js(a.env(), dx);
}

Napi::Value context_dispose(Arguments& a) {
  ContextBox& box = unwrap<ContextBox>(a.next(), "context");
  box.memory.reset();
  box.peer.reset();
  return undefined(a);
}

// What a memory layer's forward selected: for study and tests.
Napi::Value context_lookup(Arguments& a) {
  ContextBox& box = unwrap<ContextBox>(a.next(), "context");
  if (!box.memory && !box.peer)
    throw Error(Code::context,
                "Context.lookup: the context was spent.\n  Read it before backward.");
  const QueryContext& q = box.memory ? box.memory->query : box.peer->query;
  Napi::Object o = Napi::Object::New(a.env());
  o.Set("scores", to_js(a.env(), q.scores, false));
  o.Set("indices", to_js(a.env(), q.indices, false));
  o.Set("weights", to_js(a.env(), q.weights, false));
  return o;
}

// (device, down, up, query options, activation)
Napi::Value peer_layer_create(Arguments& a) {
  const auto device = a.shared_device();
  const auto down = a.table("down"), up = a.table("up");
  PeerLayerOptions o;
  o.query = query_options(a);
  o.activation = a.choice<Activation>("activation", 4);
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
  o.Set("context", wrap(a.env(), ContextBox{nullptr, std::move(r.context)}));
  return o;
}

Napi::Value peer_layer_infer(Arguments& a) {
  PeerLayer& layer = live(unwrap<PeerLayerBox>(a.next(), "layer").layer, "PeerLayer.infer");
  return to_js(a.env(), layer.forward(a.tensor("x"), false).output);
}

Napi::Value peer_layer_backward(Arguments& a) {
  PeerLayer& layer = live(unwrap<PeerLayerBox>(a.next(), "layer").layer, "PeerLayer.backward");
  ContextBox& box = unwrap<ContextBox>(a.next(), "context");
  PeerContext& context = expect_context("PeerLayer.backward", box.peer, &layer);
  const Tensor dx = layer.backward(context, a.tensor("dy"));
  box.peer.reset();
  return to_js(a.env(), dx);
}

// (device, rule, dense values, their gradients, tables)
Napi::Value optimizer_create(Arguments& a) {
  const auto device = a.shared_device();
  const auto rule = a.choice<Rule>("rule", 4);
  const std::vector<Tensor> values = a.tensors("values"), grads = a.tensors("grads");
  auto tables = a.tables("tables");
  if (values.size() != grads.size())
    throw Error(Code::value, "binding: values and gradients differ in number.");
  std::vector<Optimizer::Dense> dense;
  for (size_t i = 0; i < values.size(); ++i) dense.push_back({values[i], grads[i]});
  OptimizerBox box{std::make_unique<Optimizer>(device, rule, dense, tables)};

  const auto states = [&](const OptimizerState& s) {
    Napi::Object o = Napi::Object::New(a.env());
    if (s.state1) o.Set("state1", to_js(a.env(), s.state1));
    if (s.state2) o.Set("state2", to_js(a.env(), s.state2));
    if (s.master) o.Set("master", to_js(a.env(), s.master));
    return o;
  };
  Napi::Array dense_states = Napi::Array::New(a.env()), table_states = Napi::Array::New(a.env());
  for (size_t i = 0; i < dense.size(); ++i)
    dense_states.Set(static_cast<uint32_t>(i), states(box.optimizer->dense_state(i)));
  for (size_t i = 0; i < tables.size(); ++i)
    table_states.Set(static_cast<uint32_t>(i), states(box.optimizer->table_state(i)));
  const Tensor step = box.optimizer->step_count();
  Napi::Object handle = wrap(a.env(), std::move(box));
  handle.Set("step", to_js(a.env(), step));
  handle.Set("dense", dense_states);
  handle.Set("tables", table_states);
  return handle;
}

Hyper hyper(Arguments& a) {
  Hyper h;
  h.lr = static_cast<float>(a.number("lr"));
  h.beta1 = static_cast<float>(a.number("beta1"));
  h.beta2 = static_cast<float>(a.number("beta2"));
  h.eps = static_cast<float>(a.number("eps"));
  h.weight_decay = static_cast<float>(a.number("weightDecay"));
  return h;
}

// (optimizer, lr, beta1, beta2, eps, weightDecay, table's lr, every row)
Napi::Value optimizer_step(Arguments& a) {
  Optimizer& optimizer =
      live(unwrap<OptimizerBox>(a.next(), "optimizer").optimizer, "optimizer.step");
  const Hyper dense = hyper(a);
  Hyper table = dense;
  table.lr = static_cast<float>(a.number("tableLr"));
  optimizer.step(dense, table, a.boolean("everyRow"));
  return undefined(a);
}

Napi::Value optimizer_zero_grad(Arguments& a) {
  live(unwrap<OptimizerBox>(a.next(), "optimizer").optimizer, "optimizer.zeroGrad").zero_grad();
  return undefined(a);
}

Napi::Value optimizer_dispose(Arguments& a) {
  unwrap<OptimizerBox>(a.next(), "optimizer").optimizer.reset();
  return undefined(a);
}

// (device, dense gradients, tables, max norm)
Napi::Value clip_gradients(Arguments& a) {
  Device& device = a.device();
  const std::vector<Tensor> grads = a.tensors("grads");
  const auto tables = a.tables("tables");
  return to_js(a.env(),
               clip_grad_norm(device, grads, tables, static_cast<float>(a.number("maxNorm"))));
}

}  // namespace

void define_layers(Napi::Object exports) {
  define<table_create>(exports, "tableCreate");
  define<table_gradient>(exports, "tableGradient");
  define<table_push>(exports, "tablePush");
  define<table_clear>(exports, "tableClear");
  define<table_dispose>(exports, "tableDispose");
  define<table_pending>(exports, "tablePending");
  define<memory_layer_create>(exports, "memoryLayerCreate");
  define<memory_layer_forward>(exports, "memoryLayerForward");
  define<memory_layer_infer>(exports, "memoryLayerInfer");
  define<memory_layer_backward>(exports, "memoryLayerBackward");
  define<layer_dispose<MemoryLayerBox>>(exports, "layerDispose");
  define<layer_dispose<PeerLayerBox>>(exports, "peerDispose");
  define<context_dispose>(exports, "contextDispose");
  define<context_lookup>(exports, "contextLookup");
  define<peer_layer_create>(exports, "peerLayerCreate");
  define<peer_layer_forward>(exports, "peerLayerForward");
  define<peer_layer_infer>(exports, "peerLayerInfer");
  define<peer_layer_backward>(exports, "peerLayerBackward");
  define<optimizer_create>(exports, "optimizerCreate");
  define<optimizer_step>(exports, "optimizerStep");
  define<optimizer_zero_grad>(exports, "optimizerZeroGrad");
  define<optimizer_dispose>(exports, "optimizerDispose");
  define<clip_gradients>(exports, "clipGradients");
}

}  // namespace ml::binding
