// The operations: read the arguments, make the outputs, run. The first argument of most is `out`,
// or undefined.

#include "binding/handles.h"

namespace ml::binding {
namespace {

Tensor or_empty(const Tensor& out, const Tensor& like, const Shape& shape,
                DType dtype = DType::f32) {
  return out ? out : empty(like.device(), shape, dtype);
}

// One of several outputs: the caller's, if it is what the result will be, or a new tensor.
Tensor output(const char* op, const char* name, const Tensor& out, const Tensor& like,
              const Shape& shape, DType dtype = DType::f32) {
  if (!out) return empty(like.device(), shape, dtype);
  expect_dtype(op, name, out.view(), dtype);
  expect_shape(op, name, out.view(), shape);
  return out;
}

Napi::Object result(Napi::Env env, std::initializer_list<std::pair<const char*, Tensor>> tensors) {
  Napi::Object o = Napi::Object::New(env);
  for (const auto& [name, tensor] : tensors)
    if (tensor) o.Set(name, to_js(env, tensor));
  return o;
}

Shape last_axis(const Tensor& x, int64_t size) { return with_width(x.shape, size); }

// The tokens of a query [T, H, 2, d], with the check that comes before any use of the shape.
void expect_query(const char* op, const Tensor& query, const Tensor& keys) {
  expect_rank(op, "query", query.view(), 4, "[tokens, heads, 2, d]");
  expect_rank(op, "keys", keys.view(), 4, "[heads, 2, n, d]");
}

Napi::Value product_key_scores(Arguments& a) {
  const Tensor out = a.optional_output("out"), query = a.tensor("query"), keys = a.tensor("keys");
  expect_query("productKeyScores", query, keys);
  Tensor scores = or_empty(out, query, {query.shape[0], query.shape[1], 2, keys.shape[2]});
  run(query.device(), ProductKeyScores{scores.view(), query.view(), keys.view()});
  return to_js(a.env(), scores);
}

Napi::Value topk(Arguments& a) {
  const Tensor out_values = a.optional_output("out.values"),
               out_indices = a.optional_output("out.indices"), x = a.tensor("x");
  const int64_t k = a.integer("k");
  if (x.shape.rank == 0) fail(Code::shape, "topK", "x", "have at least one axis", "a scalar");
  expect(k >= 1 && k <= x.shape[-1], Code::value, "topK", "k",
         "be from 1 to " + std::to_string(x.shape[-1]), std::to_string(k),
         "The last axis of \"x\" " + to_string(x.shape) + " has that many values.");
  Tensor values = output("topK", "out.values", out_values, x, last_axis(x, k)),
         indices = output("topK", "out.indices", out_indices, x, last_axis(x, k), DType::i32);
  run(x.device(), TopK{values.view(), indices.view(), x.view()});
  return result(a.env(), {{"values", values}, {"indices", indices}});
}

Napi::Value product_key_lookup(Arguments& a) {
  const Tensor out_scores = a.optional_output("out.scores"),
               out_indices = a.optional_output("out.indices"),
               out_weights = a.optional_output("out.weights");
  const Tensor query = a.tensor("query"), keys = a.tensor("keys"), mask = a.optional_tensor("mask");
  const int64_t k = a.integer("knn");
  const Gate gate = a.choice<Gate>("gate", 4);
  expect_query("productKeyLookup", query, keys);
  expect(k >= 1, Code::value, "productKeyLookup", "knn", "be at least 1", std::to_string(k));
  const Shape shape{query.shape[0], query.shape[1], k};
  Device& device = query.device();
  const char* op = "productKeyLookup";
  Tensor scores = output(op, "out.scores", out_scores, query, shape),
         indices = output(op, "out.indices", out_indices, query, shape, DType::i32),
         weights = output(op, "out.weights", out_weights, query, shape);
  run(device, ProductKeyLookup{scores.view(), indices.view(), weights.view(), query.view(),
                               keys.view(), mask.view(), gate});
  return result(a.env(), {{"scores", scores}, {"indices", indices}, {"weights", weights}});
}

Napi::Value product_key_lookup_backward(Arguments& a) {
  const Tensor out_query = a.optional_output("out.dQuery"),
               out_keys = a.optional_output("out.dKeys");
  const Tensor dweights = a.tensor("dWeights"), scores = a.tensor("lookup.scores"),
               indices = a.tensor("lookup.indices"), weights = a.tensor("lookup.weights"),
               query = a.tensor("query"), keys = a.tensor("keys");
  const Gate gate = a.choice<Gate>("gate", 4);
  expect_query("productKeyLookupBackward", query, keys);
  const char* op = "productKeyLookupBackward";
  Tensor dquery = output(op, "out.dQuery", out_query, query, query.shape),
         dkeys = output(op, "out.dKeys", out_keys, query, keys.shape);
  fill(dkeys, 0);
  run(query.device(),
      ProductKeyLookupBackward{dquery.view(), dkeys.view(), dweights.view(), scores.view(),
                               indices.view(), weights.view(), query.view(), keys.view(), gate});
  return result(a.env(), {{"dQuery", dquery}, {"dKeys", dkeys}});
}

int64_t bags_of(const char* op, const Tensor& indices, const Tensor& offsets) {
  if (offsets) {
    expect_rank(op, "offsets", offsets.view(), 1, "[bags + 1]");
    expect(offsets.shape[0] >= 1, Code::shape, op, "offsets", "have at least one entry", "none");
    return offsets.shape[0] - 1;
  }
  expect_rank(op, "indices", indices.view(), 2, "[bags, bag size], or [places] with \"offsets\"");
  return indices.shape[0];
}

Napi::Value embedding_bag(Arguments& a) {
  const Tensor out = a.optional_output("out"), table = a.tensor("table"),
               indices = a.tensor("indices"), weights = a.tensor("weights"),
               offsets = a.optional_tensor("offsets"), scales = a.optional_tensor("scales");
  expect_rank("embeddingBag", "table", table.view(), 2, "[slots, dim]");
  const int64_t bags = bags_of("embeddingBag", indices, offsets);
  Tensor y = or_empty(out, table, {bags, table.shape[1]});
  run(table.device(), EmbeddingBag{y.view(), table.view(), indices.view(), weights.view(),
                                   offsets.view(), scales.view()});
  return to_js(a.env(), y);
}

Napi::Object sparse_to_js(Napi::Env env, const SparseGrad& g) {
  Napi::Object o = result(env, {{"rows", g.rows}, {"values", g.values}, {"count", g.count}});
  o.Set("slots", Napi::Number::New(env, static_cast<double>(g.slots)));
  return o;
}

// (dWeights or undefined, dy, table, indices, weights, offsets, scales, wants weights, wants table)
Napi::Value embedding_bag_backward(Arguments& a) {
  const Tensor out_weights = a.optional_output("out.dWeights");
  const Tensor dy = a.tensor("dy"), table = a.tensor("table"), indices = a.tensor("indices"),
               weights = a.tensor("weights"), offsets = a.optional_tensor("offsets"),
               scales = a.optional_tensor("scales");
  const bool wants_weights = a.boolean("wantsWeights"), wants_table = a.boolean("wantsTable");
  const char* op = "embeddingBagBackward";
  expect_rank(op, "table", table.view(), 2, "[slots, dim]");
  expect_shape(op, "dy", dy.view(), {bags_of(op, indices, offsets), table.shape[1]});
  expect_shape(op, "weights", weights.view(), indices.shape);
  expect(
      !wants_table || !scales, Code::unsupported, op, "needs.table",
      "be false for a table with scales", "true",
      "An int8 table is read only; its weights' gradient is there with needs: { table: false }.");
  Napi::Object o = Napi::Object::New(a.env());
  if (wants_weights) {
    Tensor dweights = output(op, "out.dWeights", out_weights, table, weights.shape);
    run(table.device(), EmbeddingBagWeightsBackward{dweights.view(), dy.view(), table.view(),
                                                    indices.view(), offsets.view(), scales.view()});
    o.Set("dWeights", to_js(a.env(), dweights));
  }
  if (wants_table)
    o.Set("dTable",
          sparse_to_js(a.env(), sparse_grad(table.device(), {{indices, weights, dy, offsets}},
                                            table.shape[0], table.shape[1])));
  return o;
}

Napi::Value sparse_to_dense(Arguments& a) {
  const Tensor rows = a.tensor("rows"), values = a.tensor("values"), count = a.tensor("count");
  Tensor dense = zeros(rows.device(), {a.integer("slots"), values.shape[1]});
  run(rows.device(), SparseGradToDense{dense.view(), values.view(), rows.view(), count.view()});
  return to_js(a.env(), dense);
}

Napi::Value linear(Arguments& a) {
  const Tensor out = a.optional_output("out"), x = a.tensor("x"), weight = a.tensor("weight"),
               bias = a.optional_tensor("bias");
  expect_rank("linear", "x", x.view(), 2, "[rows, in]");
  expect_rank("linear", "weight", weight.view(), 2, "[out, in]");
  Tensor y = or_empty(out, x, {x.shape[0], weight.shape[0]});
  run(x.device(), Linear{y.view(), x.view(), weight.view(), bias.view()});
  return to_js(a.env(), y);
}

// (dy, x, weight, wants x, wants weight, wants bias, and tensors to add the last two to, or
// undefined)
Napi::Value linear_backward(Arguments& a) {
  const Tensor out_x = a.optional_output("out.dx"), dy = a.tensor("dy"), x = a.tensor("x"),
               weight = a.tensor("weight");
  const bool wants_x = a.boolean("wantsX"), wants_weight = a.boolean("wantsWeight"),
             wants_bias = a.boolean("wantsBias");
  Tensor dweight = a.optional_output("dWeight"), dbias = a.optional_output("dBias");
  expect_rank("linearBackward", "x", x.view(), 2, "[rows, in]");
  expect_rank("linearBackward", "weight", weight.view(), 2, "[out, in]");
  Device& device = x.device();
  Tensor dx = wants_x ? output("linearBackward", "out.dx", out_x, x, x.shape) : Tensor{};
  if (wants_weight && !dweight) dweight = zeros(device, weight.shape);
  if (wants_bias && !dbias) dbias = zeros(device, {weight.shape[0]});
  run(device, LinearBackward{dx.view(), wants_weight ? dweight.view() : View{},
                             wants_bias ? dbias.view() : View{}, dy.view(), x.view(), weight.view(),
                             false});
  return result(a.env(), {{"dx", dx},
                          {"dWeight", wants_weight ? dweight : Tensor{}},
                          {"dBias", wants_bias ? dbias : Tensor{}}});
}

Napi::Value silu_gate(Arguments& a) {
  const Tensor out = a.optional_output("out"), y = a.tensor("y"), gate = a.tensor("a");
  Tensor z = or_empty(out, y, y.shape);
  run(y.device(), SiluGate{z.view(), y.view(), gate.view()});
  return to_js(a.env(), z);
}

Napi::Value silu_gate_backward(Arguments& a) {
  const Tensor out_y = a.optional_output("out.dy"), out_a = a.optional_output("out.da");
  const Tensor dz = a.tensor("dz"), y = a.tensor("y"), gate = a.tensor("a");
  const char* op = "siluGateBackward";
  Tensor dy = output(op, "out.dy", out_y, y, y.shape), da = output(op, "out.da", out_a, y, y.shape);
  run(y.device(), SiluGateBackward{dy.view(), da.view(), dz.view(), y.view(), gate.view()});
  return result(a.env(), {{"dy", dy}, {"da", da}});
}

Napi::Value sigmoid_gate(Arguments& a) {
  const Tensor out = a.optional_output("out"), y = a.tensor("y"), g = a.tensor("g");
  Tensor z = or_empty(out, y, y.shape);
  run(y.device(), SigmoidGate{z.view(), y.view(), g.view()});
  return to_js(a.env(), z);
}

Napi::Value sigmoid_gate_backward(Arguments& a) {
  const Tensor out_y = a.optional_output("out.dy"), out_g = a.optional_output("out.dg");
  const Tensor dout = a.tensor("dOut"), y = a.tensor("y"), g = a.tensor("g");
  const char* op = "sigmoidGateBackward";
  Tensor dy = output(op, "out.dy", out_y, y, y.shape), dg = output(op, "out.dg", out_g, y, g.shape);
  run(y.device(), SigmoidGateBackward{dy.view(), dg.view(), dout.view(), y.view(), g.view()});
  return result(a.env(), {{"dy", dy}, {"dg", dg}});
}

Napi::Value rms_norm(Arguments& a) {
  const Tensor out = a.optional_output("out"), x = a.tensor("x"), gain = a.optional_tensor("gain");
  Tensor y = or_empty(out, x, x.shape);
  run(x.device(), RmsNorm{y.view(), x.view(), gain.view(), static_cast<float>(a.number("eps"))});
  return to_js(a.env(), y);
}

// (dy, x, gain, eps, tensor to add the gain's gradient to, or undefined)
Napi::Value rms_norm_backward(Arguments& a) {
  const Tensor out_x = a.optional_output("out.dx"), dy = a.tensor("dy"), x = a.tensor("x"),
               gain = a.optional_tensor("gain");
  const float eps = static_cast<float>(a.number("eps"));
  Tensor dgain = a.optional_output("dGain");
  Tensor dx = output("rmsNormBackward", "out.dx", out_x, x, x.shape);
  if (gain && !dgain) dgain = zeros(x.device(), gain.shape);
  run(x.device(), RmsNormBackward{dx.view(), dgain.view(), dy.view(), x.view(), gain.view(), eps});
  return result(a.env(), {{"dx", dx}, {"dGain", dgain}});
}

Napi::Value softmax(Arguments& a) {
  const Tensor out = a.optional_output("out"), x = a.tensor("x");
  Tensor y = or_empty(out, x, x.shape);
  run(x.device(), Softmax{y.view(), x.view()});
  return to_js(a.env(), y);
}

Napi::Value softmax_backward(Arguments& a) {
  const Tensor out = a.optional_output("out"), dy = a.tensor("dy"), y = a.tensor("y");
  Tensor dx = or_empty(out, y, y.shape);
  run(y.device(), SoftmaxBackward{dx.view(), dy.view(), y.view()});
  return to_js(a.env(), dx);
}

Napi::Value activate(Arguments& a) {
  const Tensor out = a.optional_output("out"), x = a.tensor("x");
  Tensor y = or_empty(out, x, x.shape);
  run(x.device(), Activate{y.view(), x.view(), a.choice<Activation>("kind", 4)});
  return to_js(a.env(), y);
}

Napi::Value activate_backward(Arguments& a) {
  const Tensor out = a.optional_output("out"), dy = a.tensor("dy"), x = a.tensor("x");
  Tensor dx = or_empty(out, x, x.shape);
  run(x.device(),
      ActivateBackward{dx.view(), dy.view(), x.view(), a.choice<Activation>("kind", 4), false});
  return to_js(a.env(), dx);
}

// (out, x, y, alpha, beta): alpha x + beta y
Napi::Value add(Arguments& a) {
  const Tensor out = a.optional_output("out"), x = a.tensor("x"), y = a.tensor("y");
  const float alpha = static_cast<float>(a.number("alpha")),
              beta = static_cast<float>(a.number("beta"));
  Tensor z = or_empty(out, x, x.shape);
  run(x.device(), Add{z.view(), x.view(), y.view(), alpha, beta});
  return to_js(a.env(), z);
}

Napi::Value cross_entropy(Arguments& a) {
  const Tensor out = a.optional_output("out"), logits = a.tensor("logits"),
               targets = a.tensor("targets");
  expect_rank("crossEntropy", "logits", logits.view(), 2, "[tokens, classes]");
  Tensor loss = or_empty(out, logits, {logits.shape[0]});
  run(logits.device(), CrossEntropy{loss.view(), logits.view(), targets.view()});
  return to_js(a.env(), loss);
}

Napi::Value cross_entropy_backward(Arguments& a) {
  const Tensor out = a.optional_output("out"), dloss = a.tensor("dLoss"),
               logits = a.tensor("logits"), targets = a.tensor("targets");
  Tensor dlogits = or_empty(out, logits, logits.shape);
  run(logits.device(),
      CrossEntropyBackward{dlogits.view(), dloss.view(), logits.view(), targets.view()});
  return to_js(a.env(), dlogits);
}

Napi::Value attention(Arguments& a) {
  const Tensor out_y = a.optional_output("out.y"), out_lse = a.optional_output("out.lse");
  const Tensor q = a.tensor("q"), k = a.tensor("k"), v = a.tensor("v");
  const float scale = static_cast<float>(a.number("scale"));
  const bool causal = a.boolean("causal");
  expect_rank("attention", "q", q.view(), 4, "[batch, time, heads, width]");
  Tensor y = output("attention", "out.y", out_y, q, q.shape),
         lse = output("attention", "out.lse", out_lse, q, {q.shape[0], q.shape[2], q.shape[1]});
  run(q.device(), Attention{y.view(), lse.view(), q.view(), k.view(), v.view(), scale, causal});
  return result(a.env(), {{"y", y}, {"lse", lse}});
}

Napi::Value attention_backward(Arguments& a) {
  const char* op = "attentionBackward";
  const Tensor out_q = a.optional_output("out.dq"), out_k = a.optional_output("out.dk"),
               out_v = a.optional_output("out.dv");
  const Tensor dy = a.tensor("dy"), y = a.tensor("y"), lse = a.tensor("lse"), q = a.tensor("q"),
               k = a.tensor("k"), v = a.tensor("v");
  const float scale = static_cast<float>(a.number("scale"));
  const bool causal = a.boolean("causal");
  Tensor dq = output(op, "out.dq", out_q, q, q.shape), dk = output(op, "out.dk", out_k, q, q.shape),
         dv = output(op, "out.dv", out_v, q, q.shape);
  run(q.device(), AttentionBackward{dq.view(), dk.view(), dv.view(), dy.view(), y.view(),
                                    lse.view(), q.view(), k.view(), v.view(), scale, causal});
  return result(a.env(), {{"dq", dq}, {"dk", dk}, {"dv", dv}});
}

Napi::Value peer(Arguments& a) {
  const Tensor out_output = a.optional_output("out.output"), out_u = a.optional_output("out.u");
  const Tensor x = a.tensor("x"), down = a.tensor("down"), up = a.tensor("up"),
               indices = a.tensor("indices"), weights = a.tensor("weights");
  const auto activation = a.choice<Activation>("activation", 4);
  expect_rank("peer", "x", x.view(), 2, "[tokens, width]");
  expect_rank("peer", "up", up.view(), 2, "[slots, width]");
  Tensor out = output("peer", "out.output", out_output, x, {x.shape[0], up.shape[1]}),
         u = output("peer", "out.u", out_u, x, indices.shape);
  run(x.device(), Peer{out.view(), u.view(), x.view(), down.view(), up.view(), indices.view(),
                       weights.view(), activation});
  return result(a.env(), {{"output", out}, {"u", u}});
}

Napi::Value peer_backward(Arguments& a) {
  const Tensor out_x = a.optional_output("out.dx"), out_weights = a.optional_output("out.dWeights");
  const Tensor dout = a.tensor("dOut"), x = a.tensor("x"), down = a.tensor("down"),
               up = a.tensor("up"), indices = a.tensor("indices"), weights = a.tensor("weights"),
               u = a.tensor("u");
  const auto activation = a.choice<Activation>("activation", 4);
  expect_rank("peerBackward", "down", down.view(), 2, "[slots, width]");
  expect_rank("peerBackward", "up", up.view(), 2, "[slots, width]");
  Device& device = x.device();
  Tensor dx = output("peerBackward", "out.dx", out_x, x, x.shape),
         dweights = output("peerBackward", "out.dWeights", out_weights, x, weights.shape);
  fill(dx, 0);
  Tensor du = empty(device, weights.shape), coefficient = empty(device, weights.shape);
  run(device,
      PeerBackward{dx.view(), dweights.view(), du.view(), coefficient.view(), dout.view(), u.view(),
                   x.view(), down.view(), up.view(), indices.view(), weights.view(), activation});
  Napi::Object o = result(a.env(), {{"dx", dx}, {"dWeights", dweights}});
  o.Set("dDown", sparse_to_js(a.env(), sparse_grad(device, {{indices, du, x, {}}}, down.shape[0],
                                                   down.shape[1])));
  o.Set("dUp", sparse_to_js(a.env(), sparse_grad(device, {{indices, coefficient, dout, {}}},
                                                 up.shape[0], up.shape[1])));
  return o;
}

}  // namespace

void define_ops(Napi::Object exports) {
  define<product_key_scores>(exports, "productKeyScores");
  define<topk>(exports, "topK");
  define<product_key_lookup>(exports, "productKeyLookup");
  define<product_key_lookup_backward>(exports, "productKeyLookupBackward");
  define<embedding_bag>(exports, "embeddingBag");
  define<embedding_bag_backward>(exports, "embeddingBagBackward");
  define<sparse_to_dense>(exports, "sparseToDense");
  define<linear>(exports, "linear");
  define<linear_backward>(exports, "linearBackward");
  define<silu_gate>(exports, "siluGate");
  define<silu_gate_backward>(exports, "siluGateBackward");
  define<sigmoid_gate>(exports, "sigmoidGate");
  define<sigmoid_gate_backward>(exports, "sigmoidGateBackward");
  define<rms_norm>(exports, "rmsNorm");
  define<rms_norm_backward>(exports, "rmsNormBackward");
  define<softmax>(exports, "softmax");
  define<softmax_backward>(exports, "softmaxBackward");
  define<activate>(exports, "activate");
  define<activate_backward>(exports, "activateBackward");
  define<add>(exports, "add");
  define<cross_entropy>(exports, "crossEntropy");
  define<cross_entropy_backward>(exports, "crossEntropyBackward");
  define<attention>(exports, "attention");
  define<attention_backward>(exports, "attentionBackward");
  define<peer>(exports, "peer");
  define<peer_backward>(exports, "peerBackward");
}

}  // namespace ml::binding
